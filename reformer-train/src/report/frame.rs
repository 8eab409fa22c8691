//! The frame that all HTML pages have.

const FRAME: &str = include_str!("frame.html");
const STYLE: &str = include_str!("style.css");

/// An HTML page in the style of all of them. It loads nothing: style, script and data are inline, and its content security
/// policy forbids the rest.
///
/// ```
/// use reformer_train::report::{HtmlPage, escape};
///
/// let page = HtmlPage {
///     title: "Losses < 1",
///     main: format!("<p>{}</p>", escape("0.5 & 0.7")),
///     ..HtmlPage::default()
/// };
/// let html = page.render();
/// assert!(html.contains("<title>Losses &lt; 1</title>"));
/// assert!(html.contains("<p>0.5 &amp; 0.7</p>"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct HtmlPage<'a> {
    /// Its title and first heading, as text.
    pub title: &'a str,
    /// HTML below the heading.
    pub header: String,
    /// HTML of the content.
    pub main: String,
    /// Style sheet of what only this page has.
    pub style: &'a str,
    /// A script, and the JSON that it finds as the text of the element with the id `data`.
    pub script: Option<(&'a str, String)>,
    /// Seconds after which the page reloads itself.
    pub refresh_seconds: Option<u32>,
}

impl HtmlPage<'_> {
    /// The whole file.
    pub fn render(&self) -> String {
        let refresh = self
            .refresh_seconds
            .map(|s| format!("<meta http-equiv=\"refresh\" content=\"{s}\">"));
        let script = self.script.as_ref().map(|(script, json)| {
            format!(
                "<script id=\"data\" type=\"application/json\">{}</script>\n<script>\n{}\n</script>",
                escape_json(json),
                script.trim_end()
            )
        });
        fill(FRAME, |name| match name {
            "refresh" => refresh.clone().unwrap_or_default(),
            "title" => escape(self.title),
            "style" => format!("{STYLE}{}", self.style.trim_end()),
            "header" => self.header.clone(),
            "main" => self.main.trim_end().to_owned(),
            "script" => script.clone().unwrap_or_default(),
            unknown => unreachable!("the frame has no place for {unknown}"),
        })
    }
}

/// Replaces each `{{name}}` by a text. Inserted texts are not searched again.
pub(super) fn fill(template: &str, text: impl Fn(&str) -> String) -> String {
    let mut page = String::new();
    let mut rest = template;
    while let Some((before, (name, after))) = rest
        .split_once("{{")
        .and_then(|(before, place)| Some((before, place.split_once("}}")?)))
    {
        page += before;
        page += &text(name);
        rest = after;
    }
    page + rest
}

/// Text as HTML, in elements and in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html += "&amp;",
            '<' => html += "&lt;",
            '>' => html += "&gt;",
            '"' => html += "&quot;",
            '\'' => html += "&#39;",
            other => html.push(other),
        }
    }
    html
}

/// JSON that is safe inside a script element: nothing in it ends the element or a line.
/// These characters occur in strings only, where they can be escaped.
fn escape_json(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_filled_once() {
        let page = HtmlPage {
            title: "a {{main}} <b>",
            header: "  <p>{{style}}</p>".to_owned(),
            main: "<p>content</p>".to_owned(),
            style: ".own { margin: 0; }",
            script: Some(("run();", "[\"</script>\"]".to_owned())),
            refresh_seconds: Some(30),
        };
        let html = page.render();
        assert_eq!(html.matches("a {{main}} &lt;b&gt;").count(), 2);
        for part in [
            STYLE,
            "\n.own { margin: 0; }\n</style>",
            "<p>{{style}}</p>\n</header>\n<main>\n<p>content</p>\n</main>",
            ">[\"\\u003c/script>\"]</script>\n<script>\nrun();\n</script>",
            "content=\"30\"",
        ] {
            assert!(html.contains(part), "{part}");
        }
        assert_eq!(html.matches("{{").count(), 3);
        let bare = HtmlPage::default().render();
        assert!(!bare.contains("<script") && !bare.contains("http-equiv=\"refresh\""));
    }
}
