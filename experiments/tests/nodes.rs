//! Runs of several processes as a user meets them.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const TRAIN: &str = env!("CARGO_BIN_EXE_train_text");

/// A port that nobody listens on.
fn address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn start(folder: &Path, arguments: &[&str]) -> Child {
    Command::new(TRAIN)
        .args(arguments)
        .current_dir(folder)
        .env_remove("RUST_BACKTRACE")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program is built")
}

fn first(folder: &Path, name: &str, address: &str, steps: &str) -> Child {
    let arguments = [
        "--name",
        name,
        "--nodes",
        "2",
        "--listen",
        address,
        "--steps",
        steps,
        "--layers",
        "2",
        "--d-model",
        "16",
        "--length",
        "48",
        "--batch-size",
        "2",
        "--eval-windows",
        "2",
        "--checkpoint-every",
        "1",
        "--sample-tokens",
        "0",
    ];
    start(folder, &arguments)
}

fn end(child: Child) -> Output {
    child.wait_with_output().expect("it was started")
}

/// Asserts that a program failed with one line that has this part.
fn refused(output: &Output, part: &str) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(
        message.starts_with("error: ") && message.contains(part),
        "{message}"
    );
}

fn printed(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until a run has saved more than `steps`, and gives how many.
fn wait_for_steps(run: &Path, steps: usize) -> usize {
    let begin = Instant::now();
    loop {
        let entries = fs::read_dir(run.join("checkpoint")).into_iter().flatten();
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let of_name = |name: String| -> Option<usize> {
            name.strip_prefix("scheduler-")?
                .strip_suffix(".mpk")?
                .parse()
                .ok()
        };
        match names.filter_map(of_name).max() {
            Some(saved) if saved > steps => return saved,
            _ => assert!(
                begin.elapsed() < Duration::from_secs(60),
                "nothing is saved"
            ),
        }
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn first_process_has_the_run_and_the_second_helps() {
    let folder = tempfile::tempdir().unwrap();
    let address = address();
    // Whoever helps may be there first.
    let member = start(folder.path(), &["--join", &address]);
    let output = printed(&end(first(folder.path(), "both", &address, "4")));
    assert!(output.contains(&format!("--join {address}")), "{output}");
    let output = printed(&end(member));
    assert!(output.contains("all steps are done"), "{output}");
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert_eq!(names.len(), 1, "only the first one writes: {names:?}");
    assert!(folder.path().join("runs/both/model.mpk").is_file());
}

#[test]
fn who_loses_the_other_says_so_and_the_run_can_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("runs/lost");
    let address = address();
    let mut member = start(folder.path(), &["--join", &address]);
    let coordinator = first(folder.path(), "lost", &address, "100000");
    wait_for_steps(&run, 0);
    member.kill().unwrap();
    end(member);
    refused(&end(coordinator), "is lost: it closed the connection");

    // Beyond all that was done before.
    let steps = wait_for_steps(&run, 0);
    let member = start(folder.path(), &["--join", &address]);
    let arguments = [
        "--resume",
        "runs/lost",
        "--nodes",
        "2",
        "--listen",
        &address,
    ];
    let mut coordinator = start(folder.path(), &arguments);
    wait_for_steps(&run, steps + 1);
    coordinator.kill().unwrap();
    end(coordinator);
    refused(&end(member), "node 0");
}

#[test]
fn flags_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| end(start(folder.path(), arguments));
    refused(&run(&["--devices", "0,3"]), "no device 3");
    refused(&run(&["--devices", "0,0"]), "device 0 twice");
    let listen = run(&["--nodes", "2", "--listen", "192.0.2.1:9"]);
    refused(&listen, "`192.0.2.1:9` cannot be listened on");
    // Those that clap refuses.
    for arguments in [
        &["--nodes", "2"][..],
        &["--nodes", "1", "--listen", "127.0.0.1:0"],
        &["--join", "127.0.0.1:1", "--steps", "3"],
        &["--join", "127.0.0.1:1", "--data", "x"],
    ] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
