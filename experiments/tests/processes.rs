//! Runs of several processes as a user meets them.

#![cfg(all(unix, feature = "flex"))]
#![allow(clippy::unwrap_used)]

#[path = "../../reformer-train/tests/parallel/mpirun.rs"]
mod mpirun;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use reformer_train::run::Checkpoints;

const TRAIN: &str = env!("CARGO_BIN_EXE_train_text");
/// A step of this takes a few milliseconds.
const SMALL: &str = "--layers 2 --d-model 16 --length 48 --batch-size 4 --eval-windows 2 \
                     --sample-tokens 0 --checkpoint-every 1 --steps-per-epoch 1000000";
const PATIENCE: Duration = Duration::from_secs(60);
/// In which all processes are gone after one of them.
const SOON: Duration = Duration::from_secs(20);

/// What mpirun is given for each process, from a folder; none where there is no mpirun, which is told.
fn mpirun(folder: &Path, processes: &str) -> Option<Command> {
    let mut command = mpirun::mpirun()?;
    command
        .args(processes.split_whitespace())
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Some(command)
}

fn start(folder: &Path, n: usize, arguments: &str) -> Option<Child> {
    let mut command = mpirun(folder, &format!("-n {n} {TRAIN} {arguments}"))?;
    Some(command.spawn().expect("it was there before"))
}

/// The process of a number, once it is there.
fn process(mpirun: &Child, rank: usize) -> u32 {
    let begin = Instant::now();
    let pid = mpirun.id();
    let wanted = format!("OMPI_COMM_WORLD_RANK={rank}");
    loop {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        let is_wanted = |child: &&str| {
            let environ = fs::read(format!("/proc/{child}/environ")).unwrap_or_default();
            environ
                .split(|byte| *byte == 0)
                .any(|one| one == wanted.as_bytes())
        };
        if let Some(child) = children.split_whitespace().find(is_wanted) {
            return child.parse().expect("a number");
        }
        assert!(begin.elapsed() < PATIENCE, "process {rank} does not come");
        sleep(Duration::from_millis(10));
    }
}

fn signal(name: &str, process: u32) {
    let sent = Command::new("kill")
        .args([format!("-{name}"), process.to_string()])
        .status();
    assert!(sent.expect("every Unix has it").success());
}

fn newest(run: &Path) -> Option<usize> {
    Checkpoints::of_run(run).complete().first().copied()
}

/// Waits until a run has saved more than `steps`.
fn wait_for_steps(mpirun: &mut Child, run: &Path, steps: usize) {
    let begin = Instant::now();
    while newest(run) <= Some(steps) {
        let ended = mpirun.try_wait().expect("it was started");
        assert!(ended.is_none(), "it ended: {ended:?}");
        assert!(begin.elapsed() < PATIENCE, "nothing is saved");
        sleep(Duration::from_millis(10));
    }
}

/// Waits for the end, which is not far.
fn end(mpirun: Child) -> Output {
    let begin = Instant::now();
    let output = mpirun.wait_with_output().expect("it was started");
    assert!(begin.elapsed() < SOON, "the others did not end");
    output
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asserts that all ended with one line that has this part.
fn refused(output: &Output, part: &str) {
    let message = told(output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    // Open MPI may tell that it cannot read the memory of a process that has gone.
    let mut lines = message.lines().filter(|line| line.starts_with("error: "));
    assert!(
        lines.next().is_some_and(|line| line.contains(part)) && lines.next().is_none(),
        "{message}"
    );
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn first_process_has_the_run_and_tells_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = format!("{SMALL} --name both --steps 4 --shard-optimizer --half-gradients");
    let Some(processes) = start(folder.path(), 2, &arguments) else {
        return;
    };
    let output = processes.wait_with_output().unwrap();
    let text = printed(&output);
    assert_eq!(text.matches("After step 4").count(), 1, "{text}");
    assert_eq!(told(&output), "");
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert_eq!(names.len(), 1, "only the first one writes: {names:?}");
    assert!(folder.path().join("runs/both/model.mpk").is_file());
    // Nothing is left to do, for nobody.
    let again = start(folder.path(), 2, "--resume runs/both").unwrap();
    assert!(printed(&end(again)).contains("There is nothing to train"));
}

#[test]
fn processes_have_the_tokenizer_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = format!("{SMALL} --name pieces --steps 2 --tokenizer bpe:300");
    let Some(processes) = start(folder.path(), 2, &arguments) else {
        return;
    };
    let text = printed(&processes.wait_with_output().unwrap());
    assert!(text.contains("bits per byte)"), "{text}");
    // The last process has written it.
    let samples = fs::read_to_string(folder.path().join("runs/pieces/samples.jsonl")).unwrap();
    assert!(samples.contains("\"step\":2"), "{samples}");
}

#[test]
fn killed_process_ends_all_and_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("runs/killed");
    let arguments = format!("{SMALL} --name killed --steps 100000");
    for killed in [1, 0] {
        let arguments = match killed {
            1 => arguments.clone(),
            _ => "--resume runs/killed".to_owned(),
        };
        let Some(mut processes) = start(folder.path(), 2, &arguments) else {
            return;
        };
        let done = newest(&run).unwrap_or(0);
        wait_for_steps(&mut processes, &run, done + 1);
        signal("KILL", process(&processes, killed));
        let output = end(processes);
        assert!(!output.status.success());
        let message = told(&output);
        assert!(message.lines().count() <= 1, "{message}");
    }
    let steps = newest(&run).unwrap() + 5;
    let resumed = start(
        folder.path(),
        4,
        &format!("--resume runs/killed --steps {steps}"),
    );
    let output = resumed.unwrap().wait_with_output().unwrap();
    assert!(printed(&output).contains(&format!("After step {steps}")));
}

#[test]
fn process_that_stands_still_ends_all_with_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("runs/still");
    for stopped in [1, 0] {
        let arguments = match stopped {
            1 => format!("{SMALL} --name still --steps 100000 --wait 3"),
            _ => "--resume runs/still --wait 3".to_owned(),
        };
        let Some(mut processes) = start(folder.path(), 2, &arguments) else {
            return;
        };
        let done = newest(&run).unwrap_or(0);
        wait_for_steps(&mut processes, &run, done + 1);
        signal("STOP", process(&processes, stopped));
        let waits = 1 - stopped;
        refused(
            &end(processes),
            &format!("process {waits} waited 3 s for 1 others"),
        );
    }
}

#[test]
fn wish_to_stop_in_any_process_stops_all_after_the_same_step() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("runs/stopped");
    let told_to = [("USR1", 1), ("INT", 1), ("TERM", 1), ("USR1", 0)];
    for (i, (name, rank)) in told_to.into_iter().enumerate() {
        let arguments = match i {
            0 => format!("{SMALL} --name stopped --steps 100000"),
            _ => "--resume runs/stopped".to_owned(),
        };
        let Some(mut processes) = start(folder.path(), 2, &arguments) else {
            return;
        };
        let done = newest(&run).unwrap_or(0);
        wait_for_steps(&mut processes, &run, done + 1);
        signal(name, process(&processes, rank));
        let output = end(processes);
        let text = printed(&output);
        let reason = match rank {
            0 => "Stopped: SIGUSR1.",
            _ => "Stopped: process 1 was asked to stop.",
        };
        assert!(text.contains(reason), "{text}");
        assert_eq!(told(&output), "");
    }
}

#[test]
fn errors_are_told_once() {
    let folder = tempfile::tempdir().unwrap();
    // In one process only.
    let one = format!(
        "-n 1 {TRAIN} {SMALL} --name one --steps 4 : -n 1 {TRAIN} {SMALL} --steps 4 --devices 0,3"
    );
    let Some(mut one) = mpirun(folder.path(), &one) else {
        return;
    };
    refused(&one.output().unwrap(), "there is no device 3");
    // In all of them.
    let few = SMALL.replace("--batch-size 4", "--batch-size 3");
    let all = start(folder.path(), 4, &format!("{few} --name all --steps 4"));
    refused(&end(all.unwrap()), "`batch_size` is 3");
    let unknown = start(folder.path(), 4, "--no-such-flag").unwrap();
    let output = end(unknown);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(told(&output).lines().count(), 1, "{}", told(&output));
}

fn train_alone(folder: &Path, variables: &[(&str, &str)], arguments: &str) -> Output {
    let mut command = Command::new(TRAIN);
    command
        .args(arguments.split_whitespace())
        .envs(variables.iter().copied())
        .current_dir(folder)
        .env_remove("RUST_BACKTRACE");
    command.output().expect("the program is built")
}

#[test]
fn launcher_that_the_program_does_not_know_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let started = |variables: &[(&str, &str)]| train_alone(folder.path(), variables, SMALL);
    // No launcher of the MPI that the program has: every process would be alone.
    let part = match cfg!(feature = "mpi") {
        true => "mpiexec started 4 processes, and MPI sees 1",
        false => "mpiexec started 4 processes, and this program was built without MPI",
    };
    refused(&started(&[("PMI_SIZE", "4"), ("PMI_RANK", "0")]), part);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn devices_that_are_not_there_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let started = |arguments: &str| train_alone(folder.path(), &[], arguments);
    refused(&started("--devices 0,3"), "no device 3");
    refused(&started("--devices 0,0"), "device 0 twice");
    assert_eq!(started("--wait 0").status.code(), Some(2));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
