//! The HTML of a [`Report`].

use std::io;

use serde::Serialize;

use super::frame::{HtmlPage, escape, fill};
use super::{Environment, Phase, Report, Sample, Series, Status};

const TEMPLATE: &str = include_str!("report.html");
const SCRIPT: &str = include_str!("script.js");

/// The data of the script.
#[derive(Serialize)]
struct Data<'a> {
    series: &'a [Series],
    /// Seconds since 1970.
    written: u64,
}

/// The page, as it was at `written`, in seconds since 1970.
pub(super) fn page(report: &Report, written: u64) -> io::Result<String> {
    let data = Data {
        series: &report.series,
        written,
    };
    let running = report.status.phase == Phase::Running;
    let page = HtmlPage {
        title: &report.title,
        header: header(&report.status),
        main: fill(TEMPLATE, |name| match name {
            "last_values" => last_values(&report.series),
            "hide_samples" if report.samples.is_empty() => " hidden".to_owned(),
            "hide_samples" => String::new(),
            "samples" => samples(&report.samples),
            "hide_data_sets" if report.data.is_empty() => " hidden".to_owned(),
            "hide_data_sets" => String::new(),
            "data_sets" => rows(&report.data),
            "environment" => environment(&report.environment),
            "config" => escape(&report.config_json),
            unknown => unreachable!("the template has no place for {unknown}"),
        }),
        style: "",
        script: Some((SCRIPT, serde_json::to_string(&data)?)),
        refresh_seconds: report.refresh_seconds.filter(|_| running),
    };
    Ok(page.render())
}

fn header(status: &Status) -> String {
    let (phase, progress, percent) = (phase(status.phase), progress(status), percent(status));
    format!(
        r#"  <span class="phase {phase}">{phase}</span>
  <p class="progress-text">{progress}<span id="updated"></span></p>
  <div class="progress"><div style="width: {percent:.2}%"></div></div>"#
    )
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Running => "running",
        Phase::Finished => "finished",
        Phase::Stopped => "stopped",
    }
}

fn progress(status: &Status) -> String {
    format!(
        "step {} of {} · {:.0} % · {}",
        status.step,
        status.steps,
        percent(status).floor(),
        duration(status.seconds)
    )
}

/// Share of steps done, in percent. A run without steps is done.
fn percent(status: &Status) -> f64 {
    100.0 * (status.step as f64 / status.steps.max(1) as f64).min(1.0)
}

/// The two largest units of a time.
fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days} d {} h", hours % 24),
        () if hours > 0 => format!("{hours} h {} min", minutes % 60),
        () if minutes > 0 => format!("{minutes} min {} s", seconds % 60),
        () => format!("{seconds} s"),
    }
}

/// Rows of a table, for browsers without scripts.
fn last_values(series: &[Series]) -> String {
    let row = |series: &Series| {
        let finite = series.points.iter().rev().find(|point| point.1.is_finite());
        finite.map(|(step, value)| {
            format!(
                "      <tr><td>{}</td><td>{}</td><td>{step}</td><td>{value:.4} {}</td></tr>\n",
                escape(&series.name),
                escape(&series.split),
                escape(&series.unit)
            )
        })
    };
    series.iter().filter_map(row).collect()
}

/// The newest sample first, and open.
fn samples(samples: &[Sample]) -> String {
    let newest_first = samples.iter().rev().enumerate();
    newest_first
        .map(|(age, sample)| {
            format!(
                "  <details class=\"card\"{}><summary>step {}</summary><pre>{}</pre></details>\n",
                if age == 0 { " open" } else { "" },
                sample.step,
                // HTML drops a line feed after `<pre>`, which could be the sample's.
                escape(&format!("\n{}", sample.text))
            )
        })
        .collect()
}

fn environment(environment: &Environment) -> String {
    let Environment {
        version,
        backend,
        system,
        threads,
        command,
    } = environment;
    rows(&[
        ("Version", version.clone()),
        ("Backend", backend.clone()),
        ("System", system.clone()),
        ("Threads", threads.to_string()),
        ("Command", command.clone()),
    ])
}

/// Name and value pairs as a list.
fn rows<N: AsRef<str>>(rows: &[(N, String)]) -> String {
    rows.iter()
        .map(|(name, text)| {
            format!(
                "    <dt>{}</dt><dd>{}</dd>\n",
                escape(name.as_ref()),
                escape(text)
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "</script><b>\u{2028}{{data}} & \"quoted\"";

    fn report() -> Report {
        let series = |split: &str| Series {
            name: EVIL.to_owned(),
            unit: "nats".to_owned(),
            split: split.to_owned(),
            points: vec![(1.0, 4.5), (2.0, 3.25), (3.0, f64::NAN)],
        };
        Report {
            title: EVIL.to_owned(),
            status: Status {
                phase: Phase::Running,
                step: 3,
                steps: 12,
                seconds: 3725.0,
            },
            config_json: format!("{{\"name\": {EVIL:?}}}"),
            data: vec![("Training".to_owned(), format!("{EVIL}: 3 files"))],
            environment: Environment {
                version: "0.1.0".to_owned(),
                backend: "flex".to_owned(),
                system: "linux".to_owned(),
                threads: 2,
                command: EVIL.to_owned(),
            },
            series: vec![series("train"), series("valid")],
            samples: vec![Sample {
                step: 3,
                text: format!("\nonce {EVIL}"),
            }],
            refresh_seconds: Some(30),
        }
    }

    #[test]
    fn every_place_of_the_template_is_filled() {
        let page = page(&report(), 0).unwrap();
        assert_eq!(
            page.matches("{{data}}").count(),
            10,
            "as often as it is content"
        );
        for part in [
            SCRIPT.trim_end(),
            ": 3 files</dd>",
            "step 3 of 12 · 25 % · 1 h 2 min",
            "<td>2</td><td>3.2500 nats</td>",
            "content=\"30\"",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("{{title}}"));
    }

    #[test]
    fn content_never_becomes_markup() {
        let page = page(&report(), 0).unwrap();
        assert_eq!(page.matches("</script>").count(), 2);
        assert!(!page.contains("<b>"));
        assert!(page.contains("<pre>\n\nonce &lt;/script&gt;&lt;b&gt;"));
    }

    #[test]
    fn data_comes_back_with_gaps() {
        let page = page(&report(), 7).unwrap();
        let start = "<script id=\"data\" type=\"application/json\">";
        let (_, data) = page.split_once(start).unwrap();
        let (data, _) = data.split_once("</script>").unwrap();
        assert!(!data.contains(['<', '\u{2028}']));
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["written"], 7);
        assert_eq!(data["series"][0]["name"], EVIL);
        assert_eq!(data["series"][1]["points"][1][1], 3.25);
        assert!(data["series"][1]["points"][2][1].is_null());
    }

    #[test]
    fn only_running_pages_load_again() {
        let mut report = report();
        report.status.phase = Phase::Stopped;
        let page = page(&report, 0).unwrap();
        assert!(!page.contains("http-equiv=\"refresh\""));
        assert!(page.contains("<span class=\"phase stopped\">stopped</span>"));
    }

    #[test]
    fn times_have_two_units() {
        let times = [5.9, 65.0, 7_320.0, 200_000.0].map(duration);
        assert_eq!(times, ["5 s", "1 min 5 s", "2 h 2 min", "2 d 7 h"]);
    }
}
