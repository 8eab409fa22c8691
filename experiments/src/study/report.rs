//! The report of a study.

use std::ffi::OsString;

use anyhow::Result;
use serde::Serialize;
use time::OffsetDateTime;

use super::folder::Study;
use super::table::{Table, csv_text};
use crate::cli::called;
use crate::cli::device::DeviceName;
use crate::plot::figure::{self, Panel};

/// What a study found.
#[derive(Debug)]
pub(crate) struct Report<'a, T> {
    pub(crate) title: &'a str,
    /// Notes below the table: the claims of the paper, and how the numbers were measured.
    pub(crate) notes: Vec<String>,
    /// The paper's numbers, ours and their difference.
    pub(crate) table: Table,
    /// Panels, laid out like the paper's figure.
    pub(crate) panels: Vec<Panel>,
    /// All numbers.
    pub(crate) values: &'a T,
}

impl<T: Serialize> Report<'_, T> {
    /// Writes the report into the study's folder, and prints the table.
    pub(crate) fn write(&self, study: &Study) -> Result<()> {
        study.write_json("results.json", self.values)?;
        study.write("results.csv", &self.table.csv())?;
        study.write("curves.csv", &self.curves())?;
        figure::write(&self.panels, &study.folder().join("figure"))?;
        let table = self.table.markdown();
        let mut text = format!(
            "# {}\n\n`{}`  \n{}, {}\n\n![](figure.svg)\n\n{table}",
            self.title,
            command(),
            device(study.device()),
            OffsetDateTime::now_utc().date()
        );
        for note in &self.notes {
            text += &format!("\n{note}\n");
        }
        study.write("table.md", &text)?;
        println!("\n{}\n\n{table}", self.title);
        for note in &self.notes {
            println!("{note}");
        }
        println!("\nWritten to {}", study.folder().display());
        Ok(())
    }

    /// The points of all curves as CSV, one per line.
    fn curves(&self) -> String {
        let mut rows = vec![["panel", "curve", "x", "y"].map(str::to_owned)];
        for panel in &self.panels {
            for curve in &panel.curves {
                let points = curve.points.iter();
                rows.extend(points.map(|(x, y)| {
                    let (panel, curve) = (panel.title.clone(), curve.label.clone());
                    [panel, curve, x.to_string(), y.to_string()]
                }));
            }
        }
        csv_text(rows)
    }
}

/// The command line, without the folders of absolute paths, which are private.
fn command() -> String {
    let short = |word: OsString| match word.to_string_lossy() {
        word if word.starts_with('/') => word.rsplit('/').next().unwrap_or_default().to_owned(),
        word => word.into_owned(),
    };
    let words: Vec<String> = called::arguments().into_iter().map(short).collect();
    words.join(" ")
}

fn device(device: DeviceName) -> String {
    let name = format!("{device:?}").to_lowercase();
    match device {
        DeviceName::Flex | DeviceName::Ndarray => {
            format!("{name}, {} threads", rayon::current_num_threads())
        }
        DeviceName::Cuda | DeviceName::Wgpu => name,
    }
}
