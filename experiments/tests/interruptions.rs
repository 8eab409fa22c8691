//! Nothing of a run is lost, whatever happens to its process.

#![cfg(all(unix, feature = "flex"))]

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use burn_flex::Flex;
use reformer_core::Key;
use reformer_train::load_model;
use reformer_train::run::Checkpoints;

const TRAIN: &str = env!("CARGO_BIN_EXE_train_text");
/// A step of this takes some milliseconds. Dropout and hashing beyond the exact length draw random
/// numbers in each.
const SMALL: &str = "--layers 2 --attention lsh --window 8 --chunk-length 8 --d-model 16 --n-heads 2 \
                     --dropout 0.1 --length 48 --batch-size 2 --eval-windows 2 --sample-tokens 0 \
                     --steps 60 --steps-per-epoch 20 --checkpoint-every 3";
/// Longer than any of this takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn command(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(TRAIN);
    command
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .env_remove("RUST_BACKTRACE");
    command
}

/// A run of this name, from its start to its end.
fn train(folder: &Path, name: &str) -> Output {
    let output = command(folder, &format!("{SMALL} --name {name}")).output();
    succeeded(output.expect("the program is built"))
}

fn resume(folder: &Path, name: &str) -> String {
    format!(
        "--resume {} --sample-tokens 0",
        folder.join("runs").join(name).display()
    )
}

fn succeeded(output: Output) -> Output {
    assert!(output.status.success(), "{output:?}");
    output
}

fn start(folder: &Path, arguments: &str) -> Child {
    command(folder, arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program is built")
}

/// Waits for a checkpoint of this step or a later one, or for the end of the process.
fn wait_for_step(child: &mut Child, run: &Path, step: usize) {
    let started = Instant::now();
    let newest = || Checkpoints::of_run(run).complete().first().copied();
    while newest() < Some(step) && child.try_wait().expect("it was started").is_none() {
        assert!(started.elapsed() < PATIENCE, "it does not go on");
        sleep(Duration::from_millis(1));
    }
}

#[derive(Default)]
struct Collect(Vec<TensorData>);

impl<B: Backend> ModuleVisitor<B> for Collect {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.0.push(param.val().into_data());
    }
}

/// The weights that a run ended with, and the losses of its evaluations.
fn result(run: &Path) -> (Vec<TensorData>, Vec<(usize, f64)>) {
    assert!(run.join("model.mpk").is_file(), "it came to its end");
    let (model, _) = load_model::<Flex>(run, &Default::default()).expect("it can be read");
    let mut collect = Collect::default();
    model.visit(&mut collect);
    let rows =
        reformer_train::metrics::read_rows(&run.join("metrics.csv")).expect("it can be read");
    let valid = rows.iter().filter(|row| row.split == "valid");
    (collect.0, valid.map(|row| (row.step, row.loss())).collect())
}

fn assert_same(interrupted: &Path, straight: &Path) {
    let (interrupted, straight) = (result(interrupted), result(straight));
    assert_eq!(interrupted.1, straight.1);
    assert_eq!(interrupted.0.len(), straight.0.len());
    for (interrupted, straight) in interrupted.0.iter().zip(&straight.0) {
        interrupted.assert_eq(straight, true);
    }
}

#[test]
fn killed_run_ends_with_the_weights_of_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train(folder, "straight");
    let run = folder.join("runs/killed");
    let mut arguments = format!("{SMALL} --name killed");
    let mut n_killed = 0;
    for kill in 1..=6 {
        let mut child = start(folder, &arguments);
        wait_for_step(&mut child, &run, 8 * kill);
        // Somewhere in the next steps, or in the middle of a file.
        let delay = Key::new(7).bits(kill as u64)[0] % 20_000;
        sleep(Duration::from_micros(delay.into()));
        n_killed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().expect("it was started");
        child.wait().expect("it was started");
        arguments = resume(folder, "killed");
    }
    assert!(n_killed >= 3, "only {n_killed} of the kills came in time");
    succeeded(command(folder, &arguments).output().unwrap());
    assert_same(&run, &folder.join("runs/straight"));
}

#[test]
fn ctrl_c_finishes_the_step_saves_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train(folder, "straight");
    let run = folder.join("runs/stopped");
    let mut child = start(folder, &format!("{SMALL} --name stopped"));
    wait_for_step(&mut child, &run, 9);
    let sent = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(sent.expect("every Unix has it").success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let [printed, told] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(told.starts_with("Finishing this step and saving"), "{told}");
    assert!(
        printed.contains("Stopped: Ctrl-C. Resume with:"),
        "{printed}"
    );
    assert!(printed.contains("--resume runs/stopped"), "{printed}");
    assert!(!run.join("model.mpk").exists(), "it was not finished");
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains(">stopped<"));

    succeeded(
        command(folder, &resume(folder, "stopped"))
            .output()
            .unwrap(),
    );
    assert_same(&run, &folder.join("runs/straight"));
}

#[test]
fn ctrl_c_is_heard_in_the_dashboard() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let run = folder.join("runs/shown");
    let endless = SMALL.replace("--steps 60", "--steps 1000000");
    let program = format!("{TRAIN} {endless} --name shown");
    // A terminal of its own, as large as people have them.
    let script = Command::new("script")
        .args([
            "-qefc",
            &format!("stty rows 40 cols 120; exec {program}"),
            "/dev/null",
        ])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = script else {
        println!("SKIPPED: there is no `script`, which makes terminals");
        return;
    };
    let mut shown = child.stdout.take().expect("it is piped");
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        shown.read_to_end(&mut all).map(|_| all)
    });
    wait_for_step(&mut child, &run, 9);
    let mut keys = child.stdin.take().expect("it is piped");
    keys.write_all(b"\x03").unwrap();
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(started.elapsed() < PATIENCE, "it is deaf to Ctrl-C");
        sleep(Duration::from_millis(2));
    };
    let shown = reader.join().unwrap().unwrap();
    let shown = String::from_utf8_lossy(&shown);
    assert_eq!(status.code(), Some(130), "{shown}");
    // The dashboard took the terminal and gave it back.
    assert!(shown.contains("\u{1b}[?1049h"), "{shown}");
    assert!(shown.contains("--resume runs/shown"), "{shown}");
    assert!(!Checkpoints::of_run(&run).complete().is_empty());
}

#[test]
fn full_disk_is_told_and_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    // No file may have more than 96 KiB: enough for the weights, not for the optimizer's state.
    // A signal would end the program; ignored, it is an error like that of a full disk.
    let script = format!("trap '' XFSZ; ulimit -f 192; exec {TRAIN} {SMALL} --name full");
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(folder.path())
        .env_remove("RUST_BACKTRACE")
        .output();
    let output = succeeded(output.expect("every Unix has a shell"));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!told.is_empty(), "nothing was told");
    for line in told.lines() {
        assert!(
            line.starts_with("warning: `runs/full/checkpoint/optim-"),
            "{line}"
        );
        assert!(
            line.contains("cannot be written: ") && line.ends_with("the run continues"),
            "{line}"
        );
    }
    let run = folder.path().join("runs/full");
    assert!(run.join("model.mpk").is_file());
    assert_eq!(Checkpoints::of_run(&run).complete(), [0usize; 0]);
    let n_left = fs::read_dir(run.join("checkpoint")).unwrap().count();
    assert!(
        n_left <= 4,
        "a full disk is not filled further: {n_left} files"
    );
    assert_eq!(result(&run).1.last().unwrap().0, 60);
}

/// A small disk of its own, as long as it is there.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// None if this process may not mount.
    fn mount(folder: &Path, size: &str) -> Option<Self> {
        let disk = Self(folder.to_owned());
        disk.call(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .then_some(disk)
    }

    fn grow(&self, size: &str) {
        assert!(self.call(&["-o", &format!("remount,size={size}")]));
    }

    fn call(&self, arguments: &[&str]) -> bool {
        let mount = Command::new("mount").args(arguments).arg(&self.0).output();
        mount.is_ok_and(|output| output.status.success())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[test]
fn run_on_a_full_disk_can_go_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path(), "300k") else {
        eprintln!("SKIPPED: no tmpfs can be mounted, so no disk was full");
        return;
    };
    let arguments = "--layers 1 --d-model 16 --n-heads 2 --length 48 --batch-size 2 --eval-windows 2 --steps 60 \
                     --steps-per-epoch 10 --name x --sample-tokens 5";
    let full = command(folder.path(), arguments).output().unwrap();
    let message = String::from_utf8_lossy(&full.stderr);
    assert!(matches!(full.status.code(), Some(0 | 1)), "{message}");
    assert!(message.contains("No space left"), "{message}");
    for line in message.lines() {
        assert!(
            line.starts_with("warning: ") || line.starts_with("error: "),
            "{line}"
        );
        assert!(line.contains("cannot be written"), "{line}");
    }
    disk.grow("64m");
    let resume = "--resume runs/x --sample-tokens 5";
    succeeded(command(folder.path(), resume).output().unwrap());
    assert!(folder.path().join("runs/x/model.mpk").is_file());
    let rows =
        reformer_train::metrics::read_rows(&folder.path().join("runs/x/metrics.csv")).unwrap();
    assert_eq!(rows.last().unwrap().step, 60);
}

#[test]
fn finished_run_is_left_alone_or_made_longer() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let first = train(folder, "long");
    let first = String::from_utf8(first.stdout).unwrap();
    for part in ["\nTraining data: ", "\nValidation data: ", " tokens"] {
        assert!(first.contains(part), "{part}: {first}");
    }
    let run = folder.join("runs/long");
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("<dt>Validation</dt><dd>"), "{page}");
    let weights = fs::read(run.join("model.mpk")).unwrap();
    let again = |more: &str| {
        let arguments = format!("{} {more}", resume(folder, "long"));
        let output = succeeded(command(folder, &arguments).output().unwrap());
        String::from_utf8(output.stdout).unwrap()
    };
    let told = again("");
    assert!(told.contains("There is nothing to train"), "{told}");
    assert_eq!(fs::read(run.join("model.mpk")).unwrap(), weights);
    let told = again("--steps 80");
    assert!(told.contains("Resuming after step 60"), "{told}");
    assert!(told.contains("80 steps instead of 60"), "{told}");
    assert_ne!(fs::read(run.join("model.mpk")).unwrap(), weights);
    assert_eq!(result(&run).1.last().unwrap().0, 80);
    // It is now a run of so many steps.
    assert!(again("").contains("There is nothing to train"));
}
