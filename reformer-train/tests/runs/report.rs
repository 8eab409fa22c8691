//! The report in a browser. Needs Chromium: from `CHROMIUM`, or one of its usual names in `PATH`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs};

use burn_autodiff::Autodiff;
use burn_flex::Flex;
use reformer_core::attention::{AttentionKind, ExactUpTo, LshConfig};
use reformer_core::model::{ReformerConfig, ReformerLmConfig};
use reformer_train::metrics::{Quantity, Row};
use reformer_train::report::{Environment, Phase, Report, Sample, Series, Status, write_report};
use reformer_train::{DataConfig, Run, TrainConfig, TrainOptions};

const EVIL: &str = "</script><b>bold</b>";
const EVIL_AS_TEXT: &str = "&lt;/script&gt;&lt;b&gt;bold&lt;/b&gt;";

fn browser() -> Option<PathBuf> {
    if let Some(path) = env::var_os("CHROMIUM") {
        return Some(path.into());
    }
    let path = env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let mut files = names
        .iter()
        .flat_map(|name| env::split_paths(&path).map(move |folder| folder.join(name)));
    files.find(|file| file.is_file())
}

/// The document after its scripts have run; None without a browser.
fn rendered(page: &Path) -> Option<String> {
    let Some(browser) = browser() else {
        eprintln!("SKIPPED: there is no Chromium in PATH or CHROMIUM, so no page was opened");
        return None;
    };
    let profile = tempfile::tempdir().expect("a folder can be made");
    let output = Command::new(&browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu"])
        .args(["--disable-quic", "--no-first-run", "--disable-sync"])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--virtual-time-budget=3000", "--dump-dom"])
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap_or_else(|error| panic!("{} does not start: {error}", browser.display()));
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A curve that falls from `from`, with some noise.
fn series(name: &str, unit: &str, split: &str, from: f64, n_points: u32) -> Series {
    let value = |i: u32| {
        let noise = 0.02 * f64::from(i * i * 7919 % 101) / 101.0;
        from * (0.25 + 0.75 * (-6.0 * f64::from(i) / f64::from(n_points)).exp() + noise)
    };
    let every = 10_000 / n_points;
    Series {
        name: name.to_owned(),
        unit: unit.to_owned(),
        split: split.to_owned(),
        points: (1..=n_points)
            .map(|i| (f64::from(i * every), value(i)))
            .collect(),
    }
}

fn report() -> Report {
    let mut speed = series("tokens per second", "", "train", 9000.0, 200);
    speed.points[20].1 = f64::NAN;
    Report {
        title: "enwik8, three layers".to_owned(),
        status: Status {
            phase: Phase::Running,
            step: 10_000,
            steps: 16_000,
            seconds: 4321.0,
        },
        config_json: format!(
            "{{\n  \"note\": \"{EVIL}\",\n  \"seed\": 9007199254740993,\n  \"n_layers\": 3,\n  \
             \"optimizer\": {{\n    \"epsilon\": 1e-8,\n    \"reversible\": true\n  }}\n}}"
        ),
        data: vec![("Training".to_owned(), format!("{EVIL}: 1 file"))],
        environment: Environment::of_this_process("flex"),
        series: vec![
            series("loss", "nats", "train", 5.5, 200),
            series("loss", "nats", "valid", 5.6, 10),
            series("accuracy", "%", "train", 60.0, 200),
            series("learning rate", "", "train", 1e-3, 200),
            speed,
            Series {
                points: vec![(1.0, f64::NAN)],
                ..series("never measured", "", "train", 1.0, 1)
            },
        ],
        samples: vec![
            Sample {
                step: 5000,
                text: "The the of and".to_owned(),
            },
            Sample {
                step: 10_000,
                text: format!("It was the best of {EVIL},\nit was the worst."),
            },
        ],
        refresh_seconds: None,
    }
}

fn written(report: &Report, folder: &Path) -> PathBuf {
    let page = folder.join("report.html");
    write_report(report, &page).expect("the folder is there");
    // To be looked at by hand.
    if let Some(copy) = env::var_os("REPORT_COPY") {
        fs::copy(&page, copy).expect("the copy can be written");
    }
    page
}

#[test]
fn script_draws_all_curves_and_shows_all_texts() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let Some(dom) = rendered(&written(&report(), folder.path())) else {
        return;
    };
    assert!(!dom.contains("data-error"), "the script failed: {dom}");
    assert!(dom.contains("data-charts=\"4\""));
    assert_eq!(dom.matches("data-points=\"200\"").count(), 3);
    assert_eq!(dom.matches("data-points=\"199\"").count(), 1);
    assert_eq!(dom.matches("data-points=\"10\"").count(), 1);
    // The gap begins a second line.
    let lines = dom
        .split("<path")
        .skip(1)
        .filter_map(|path| path.split('>').next());
    assert_eq!(
        lines.map(|path| path.matches('M').count()).sum::<usize>(),
        6
    );

    assert_eq!(
        dom.matches(EVIL_AS_TEXT).count(),
        3,
        "configuration, data and sample"
    );
    assert!(!dom.contains("<b>bold</b>"));
    assert!(
        dom.contains("<span class=\"key\">\"n_layers\":</span> <span class=\"number\">3</span>")
    );
    assert!(
        dom.contains("9007199254740993"),
        "no digit of a seed is lost"
    );
    assert!(dom.contains("step 10000 of 16000"));
    assert!(dom.contains("written "));
}

/// Moves the slider, ticks both boxes and points at the first chart.
const DRIVE: &str = r#"<script>
document.getElementById("smoothing").value = 0.8;
document.getElementById("log-value").checked = true;
document.getElementById("log-step").checked = true;
document.getElementById("controls").dispatchEvent(new Event("input"));
const svg = document.querySelector("svg");
const { right, y } = svg.getBoundingClientRect();
svg.dispatchEvent(new PointerEvent("pointermove", { clientX: right, clientY: y + 50 }));
</script></body>"#;

#[test]
fn controls_smooth_the_curves_and_the_pointer_shows_values() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let page = written(&report(), folder.path());
    let html = fs::read_to_string(&page).expect("it was written");
    fs::write(&page, html.replace("</body>", DRIVE)).expect("it was written");
    let Some(dom) = rendered(&page) else {
        return;
    };
    assert!(!dom.contains("data-error"), "the script failed: {dom}");
    assert_eq!(dom.matches("class=\"curve raw\"").count(), 5);
    let (_, tip) = dom
        .split_once("<div class=\"tip\" style")
        .expect("it is shown");
    for text in ["step 10,000", "train<b>1.45", "valid<b>1.47"] {
        assert!(tip.contains(text), "{text}: {}", &tip[..500]);
    }
}

#[test]
fn page_without_measurements_is_no_error() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let empty = Report {
        series: vec![],
        samples: vec![],
        ..report()
    };
    let Some(dom) = rendered(&written(&empty, folder.path())) else {
        return;
    };
    assert!(!dom.contains("data-error"), "the script failed: {dom}");
    assert!(dom.contains("data-charts=\"0\""));
    assert!(dom.contains("<section id=\"curves\" hidden=\"\">"));
}

/// A small run whose samples are markup.
fn config() -> TrainConfig {
    let lsh = LshConfig::new().with_exact_up_to(ExactUpTo::Never);
    let model = ReformerConfig::new(256, 16, 1)
        .with_lsh(lsh)
        .with_layers(vec![AttentionKind::Lsh]);
    TrainConfig::new(ReformerLmConfig::new(model).into(), DataConfig::Sample)
        .with_window_length(32)
        .with_batch_size(2)
        .with_steps(6)
        .with_steps_per_epoch(2)
        .with_eval_windows(Some(2))
}

/// What the script of a page draws.
fn curves(html: &str) -> Vec<serde_json::Value> {
    let start = "<script id=\"data\" type=\"application/json\">";
    let (_, data) = html.split_once(start).expect("there is data");
    let (data, _) = data.split_once("</script>").expect("it has an end");
    let data: serde_json::Value = serde_json::from_str(data).expect("it is JSON");
    data["series"].as_array().expect("there are series").clone()
}

fn points(rows: &[Row], quantity: Quantity, split: &str) -> Vec<(f64, f64)> {
    let of_split = rows.iter().filter(|row| row.split == split);
    of_split
        .filter_map(|row| Some((row.step as f64, row.get(quantity)?)))
        .collect()
}

#[test]
fn run_leaves_a_page_with_its_curves_and_texts() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let run = Run::create(config(), folder.path().join("small")).expect("it is valid");
    let page = run.folder().join("report.html");
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    let while_running = page.clone();
    let options = TrainOptions::silent().with_samples(move |_| {
        let html = fs::read_to_string(&while_running).unwrap_or_default();
        RUNNING.fetch_add(usize::from(html.contains(">running<")), Ordering::Relaxed);
        Some(EVIL.to_owned())
    });
    run.train::<Autodiff<Flex>, _>(&Default::default(), 0, options)
        .expect("nothing keeps it from training");

    // After the first evaluation and after the second, unless the machine is busy: a thread of its own
    // writes the page. The last is followed by the end.
    let running = RUNNING.load(Ordering::Relaxed);
    assert!((1..=2).contains(&running), "{running}");
    let html = fs::read_to_string(&page).expect("it was written");
    assert!(html.contains(">finished<") && html.contains("step 6 of 6"));
    assert_eq!(html.matches(EVIL_AS_TEXT).count(), 3, "a sample each time");
    let (rows, curves) = (run.rows().expect("they were written"), curves(&html));
    let mut names = BTreeSet::new();
    // These say nothing that other curves do not.
    let unplotted = [Quantity::Perplexity, Quantity::Memory, Quantity::Seconds];
    for quantity in Quantity::ALL {
        let label = quantity.label(&run.config().data);
        for split in ["train", "valid"] {
            let expected = points(&rows, quantity, split);
            let is_it = |curve: &&serde_json::Value| {
                curve["name"] == label.as_str() && curve["split"] == split
            };
            let found = curves
                .iter()
                .find(is_it)
                .map(|curve| curve["points"].clone());
            let is_plotted = !expected.is_empty() && !unplotted.contains(&quantity);
            let expected = is_plotted.then(|| serde_json::json!(expected));
            assert_eq!(found, expected, "{label} {split}");
            names.extend(is_plotted.then(|| label.clone()));
        }
    }
    for name in [
        "Loss",
        "Bits per byte",
        "Coverage",
        "Bucket entropy",
        "Drift",
    ] {
        assert!(names.contains(name), "{name} is missing: {names:?}");
    }
    if let Some(dom) = rendered(&page) {
        assert!(!dom.contains("data-error"), "the script failed: {dom}");
        assert!(
            dom.contains(&format!("data-charts=\"{}\"", names.len())),
            "{dom}"
        );
    }
}
