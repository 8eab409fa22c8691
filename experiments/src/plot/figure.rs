//! Curves as pictures, SVG and PNG.

use std::io::Cursor;
use std::path::Path;
use std::sync::Once;

use anyhow::{Context, Result, anyhow};
use epaint_default_fonts::UBUNTU_LIGHT;
use image::{ImageFormat, RgbImage};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use crate::out::save;

const PANEL: (u32, u32) = (560, 440);
/// Panels in a row.
const COLUMNS: usize = 2;
const FONT: &str = "sans-serif";
/// Margin around the curves, as a share of their range.
const MARGIN: f64 = 0.05;
/// Colours that colour-blind readers can tell apart, too (Okabe and Ito, 2008).
const COLORS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(150, 150, 150),
];

/// An axis of a panel.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    /// Label, with its unit.
    pub(crate) label: String,
    /// Whether the axis is logarithmic.
    pub(crate) log: bool,
}

impl Axis {
    /// A linear axis.
    pub(crate) fn linear(label: impl Into<String>) -> Self {
        let label = label.into();
        Self { label, log: false }
    }

    /// A logarithmic axis.
    pub(crate) fn log(label: impl Into<String>) -> Self {
        let label = label.into();
        Self { label, log: true }
    }

    /// Position of a value on the axis: on a logarithmic one, its binary logarithm.
    fn place(&self, value: f64) -> f64 {
        if self.log { value.log2() } else { value }
    }

    /// The value at a position, as text.
    fn text(&self, place: f64) -> String {
        let value = if self.log { place.exp2() } else { place };
        number(value)
    }
}

/// A number with as many digits as it needs: `65536` as `64K`, `0.125`, `2.5`.
fn number(value: f64) -> String {
    const K: f64 = 1024.0;
    let size = value.abs();
    if size >= K && (value / K).fract() == 0.0 {
        return match size >= K * K && (value / K / K).fract() == 0.0 {
            true => format!("{}M", value / K / K),
            false => format!("{}K", value / K),
        };
    }
    let digits = match size {
        s if s >= 100.0 => 0,
        s if s >= 10.0 => 1,
        s if s >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// One line of a plot.
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    /// Label in the legend.
    pub(crate) label: String,
    /// `(x, y)` in order of `x`. Points that are not finite, or not positive on a logarithmic axis, are left out.
    pub(crate) points: Vec<(f64, f64)>,
    /// Whether it is a reference or an expectation: drawn dashed.
    pub(crate) dashed: bool,
}

impl Curve {
    /// A measured curve, drawn solid.
    pub(crate) fn new(label: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self {
            label: label.into(),
            points,
            dashed: false,
        }
    }

    /// A reference or expected curve, drawn dashed.
    pub(crate) fn dashed(mut self) -> Self {
        self.dashed = true;
        self
    }
}

/// Curves in one pair of axes.
#[derive(Debug, Clone)]
pub(crate) struct Panel {
    /// Title.
    pub(crate) title: String,
    /// Horizontal axis.
    pub(crate) x: Axis,
    /// Vertical axis.
    pub(crate) y: Axis,
    /// Curves, each in a colour of its own.
    pub(crate) curves: Vec<Curve>,
}

/// Draws panels, two in a row, into `stem.svg` and `stem.png`. Panels without a point are left
/// out.
pub(crate) fn write(panels: &[Panel], stem: &Path) -> Result<()> {
    write_svg(panels, &stem.with_extension("svg"))?;
    write_png(panels, &stem.with_extension("png"))
}

/// Draws panels, two in a row, as SVG.
pub(crate) fn write_svg(panels: &[Panel], path: &Path) -> Result<()> {
    save(path, svg(panels)?.as_bytes())
}

/// Draws panels as SVG text.
///
/// # Errors
/// Nothing to draw.
pub(crate) fn svg(panels: &[Panel]) -> Result<String> {
    let panels = places(panels)?;
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, size(panels.len())).into_drawing_area();
    draw(&panels, &area).map_err(|error| anyhow!("a picture cannot be drawn: {error}"))?;
    drop(area);
    Ok(svg)
}

fn write_png(panels: &[Panel], path: &Path) -> Result<()> {
    let panels = places(panels)?;
    let (width, height) = size(panels.len());
    let mut pixels = RgbImage::new(width, height);
    let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
    draw(&panels, &area).map_err(|error| anyhow!("a picture cannot be drawn: {error}"))?;
    drop(area);
    let mut png = Cursor::new(Vec::new());
    pixels
        .write_to(&mut png, ImageFormat::Png)
        .context("a picture cannot be packed")?;
    save(path, png.get_ref())
}

fn size(n_panels: usize) -> (u32, u32) {
    let columns = COLUMNS.min(n_panels) as u32;
    let rows = n_panels.div_ceil(COLUMNS) as u32;
    (columns * PANEL.0, rows * PANEL.1)
}

/// The panels that have points, with values converted to positions on their axes.
fn places(panels: &[Panel]) -> Result<Vec<Panel>> {
    let mut panels = panels.to_vec();
    for panel in &mut panels {
        for curve in &mut panel.curves {
            for (x, y) in &mut curve.points {
                (*x, *y) = (panel.x.place(*x), panel.y.place(*y));
            }
            curve.points.retain(|(x, y)| x.is_finite() && y.is_finite());
        }
        panel.curves.retain(|curve| !curve.points.is_empty());
    }
    panels.retain(|panel| !panel.curves.is_empty());
    match panels.is_empty() {
        true => Err(anyhow!("there are no measurements to plot")),
        false => Ok(panels),
    }
}

type Drawn<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

fn draw<DB: DrawingBackend>(panels: &[Panel], area: &DrawingArea<DB, Shift>) -> Drawn<DB> {
    static FONTS: Once = Once::new();
    FONTS.call_once(|| {
        // Only a file that is not a font makes this fail.
        register_font(FONT, FontStyle::Normal, UBUNTU_LIGHT).ok();
    });
    area.fill(&WHITE)?;
    let columns = COLUMNS.min(panels.len());
    let parts = area.split_evenly((panels.len().div_ceil(COLUMNS), columns));
    for (panel, part) in panels.iter().zip(&parts) {
        draw_panel(panel, part)?;
    }
    area.present()
}

fn draw_panel<DB: DrawingBackend>(panel: &Panel, area: &DrawingArea<DB, Shift>) -> Drawn<DB> {
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .caption(&panel.title, (FONT, 17))
        .x_label_area_size(42)
        .y_label_area_size(62)
        .build_cartesian_2d(
            range(panel, |point| point.0, 0.0),
            range(panel, |point| point.1, MARGIN),
        )?;
    chart
        .configure_mesh()
        .x_desc(&panel.x.label)
        .y_desc(&panel.y.label)
        .x_labels(labels(panel, |point| point.0, &panel.x))
        .y_labels(labels(panel, |point| point.1, &panel.y))
        .x_label_formatter(&|place| panel.x.text(*place))
        .y_label_formatter(&|place| panel.y.text(*place))
        .label_style((FONT, 13))
        .axis_desc_style((FONT, 14))
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.1))
        .draw()?;
    for (curve, color) in panel.curves.iter().zip(COLORS.iter().cycle()) {
        let style = color.stroke_width(2);
        let points = curve.points.iter().copied();
        let series = match curve.dashed {
            true => chart.draw_series(DashedLineSeries::new(points.clone(), 6, 4, style))?,
            false => chart.draw_series(LineSeries::new(points.clone(), style))?,
        };
        series
            .label(&curve.label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        // With few points, each one is marked as a measurement.
        if curve.points.len() <= 12 && !curve.dashed {
            chart.draw_series(points.map(|point| Circle::new(point, 3, color.filled())))?;
        }
    }
    chart
        .configure_series_labels()
        .label_font((FONT, 13))
        .position(legend_position(panel))
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()
}

/// Largest number of ticks of an axis; a logarithmic one has a tick for each doubling, if there are some.
fn labels(panel: &Panel, of: impl Fn(&(f64, f64)) -> f64, axis: &Axis) -> usize {
    const USUAL: usize = 10;
    let range = range(panel, of, 0.0);
    let doublings = (range.end - range.start) as usize;
    match axis.log && (2..USUAL).contains(&doublings) {
        true => doublings + 1,
        false => USUAL,
    }
}

/// Puts the legend in the corner that the curves leave free: falling ones (losses) or rising ones.
fn legend_position(panel: &Panel) -> SeriesLabelPosition {
    let rises = |curve: &Curve| match (curve.points.first(), curve.points.last()) {
        (Some(first), Some(last)) => last.1 >= first.1,
        _ => false,
    };
    let rising = panel.curves.iter().filter(|curve| rises(curve)).count();
    match 2 * rising > panel.curves.len() {
        true => SeriesLabelPosition::UpperLeft,
        false => SeriesLabelPosition::UpperRight,
    }
}

/// From the lowest to the highest position, with a margin given as a share of the range.
fn range(panel: &Panel, of: impl Fn(&(f64, f64)) -> f64, margin: f64) -> core::ops::Range<f64> {
    let places = || panel.curves.iter().flat_map(|curve| &curve.points).map(&of);
    let low = places().fold(f64::INFINITY, f64::min);
    let high = places().fold(f64::NEG_INFINITY, f64::max);
    if low == high {
        return low - 0.5..high + 0.5;
    }
    let room = margin * (high - low);
    low - room..high + room
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(points: Vec<(f64, f64)>) -> Panel {
        Panel {
            title: "Seconds over length".to_owned(),
            x: Axis::log("length"),
            y: Axis::linear("seconds"),
            curves: vec![
                Curve::new("lsh", points),
                Curve::new("expected", vec![(1024.0, 1.0), (4096.0, 4.0)]).dashed(),
            ],
        }
    }

    #[test]
    fn both_pictures_show_every_curve() {
        let folder = tempfile::tempdir().unwrap();
        let stem = folder.path().join("figure");
        let panels = [
            panel(vec![(1024.0, 1.0), (2048.0, 2.5)]),
            panel(vec![(f64::NAN, 1.0), (0.0, 2.0)]),
            panel(vec![(4096.0, 1.0)]),
        ];
        write(&panels, &stem).unwrap();
        let svg = std::fs::read_to_string(stem.with_extension("svg")).unwrap();
        for text in [
            "Seconds over length",
            "length",
            "lsh",
            "expected",
            "1K",
            "4K",
        ] {
            assert!(svg.contains(text), "{text}");
        }
        let png = image::open(stem.with_extension("png")).unwrap().to_rgb8();
        assert_eq!(png.dimensions(), (1120, 880));
        for color in &COLORS[..2] {
            let color = [color.0, color.1, color.2];
            assert!(png.pixels().any(|pixel| pixel.0 == color), "{color:?}");
        }
        // Letters are rendered, not only lines: their edges have many shades of grey.
        let greys = png
            .pixels()
            .filter(|p| p.0[0] == p.0[1] && p.0[1] == p.0[2]);
        let shades: std::collections::BTreeSet<u8> = greys.map(|pixel| pixel.0[0]).collect();
        assert!(shades.len() > 50, "{}", shades.len());
    }

    #[test]
    fn nothing_to_draw_is_an_error() {
        let mut panel = panel(vec![]);
        panel.curves.truncate(1);
        let error = write(&[panel], Path::new("figure")).unwrap_err();
        assert_eq!(error.to_string(), "there are no measurements to plot");
    }

    #[test]
    fn numbers_are_short() {
        let written = [65536.0, 1048576.0, 1000.0, 0.125, 2.5, 12.34, 0.0].map(number);
        assert_eq!(written, ["64K", "1M", "1000", "0.125", "2.5", "12.3", "0"]);
    }
}
