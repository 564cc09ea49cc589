//! The page as HTML: one file that needs no other, and may reach for none.
//!
//! Data stands in it as JSON that is no script, with `<` written as `\u003c`; the script puts it into the page as text
//! only. The policy lets nothing run or style but what stands here, by its hash.

use sha2::{Digest, Sha256};

use super::Document;
use crate::error::Result;

const TEMPLATE: &str = include_str!("assets/page.html");
const STYLE: &str = include_str!("assets/page.css");
const CHARTS: &str = include_str!("assets/echarts.min.js");
const SCRIPTS: [&str; 3] =
    [include_str!("assets/words.js"), include_str!("assets/charts.js"), include_str!("assets/page.js")];

/// The page of a document as one file.
pub fn offline(document: &Document) -> Result<String> {
    Ok(page(&document.title, &serde_json::to_string(document)?, &policy("")))
}

/// A page that asks its server for the document, again and again.
pub fn live(title: &str) -> String {
    page(title, "null", &live_policy())
}

/// What a live page may do.
pub fn live_policy() -> String {
    policy("; connect-src 'self'")
}

fn policy(more: &str) -> String {
    format!(
        "default-src 'none'; script-src {} {}; style-src {}; img-src data:; base-uri 'none'; form-action 'none'{more}",
        hash(CHARTS),
        hash(&script()),
        hash(STYLE)
    )
}

/// The source expression of an inline script or style.
fn hash(text: &str) -> String {
    format!("'sha256-{}'", base64(&Sha256::digest(text)))
}

fn script() -> String {
    format!("\"use strict\";\n{}", SCRIPTS.join("\n"))
}

fn page(title: &str, document: &str, policy: &str) -> String {
    let script = script();
    let parts = [
        ("policy", policy.to_string()),
        ("title", escaped(title)),
        ("style", STYLE.to_string()),
        ("document", document.replace('<', "\\u003c")),
        ("charts", CHARTS.to_string()),
        ("script", script),
    ];
    // One pass over the template: what is filled in is not looked into again.
    let mut page = String::with_capacity(TEMPLATE.len() + CHARTS.len() + document.len() + STYLE.len());
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").expect("a placeholder of the template ends");
        let (_, content) =
            parts.iter().find(|(part, _)| *part == name).expect("a placeholder of the template is known");
        page.push_str(before);
        page.push_str(content);
        rest = after;
    }
    page.push_str(rest);
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Standard Base64.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let three = chunk.iter().fold(0u32, |all, byte| all << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = DIGITS[(three >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= chunk.len() { digit as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::About;

    fn document(title: &str) -> Document {
        Document { title: title.into(), about: About::default(), tiles: Vec::new(), sections: Vec::new() }
    }

    #[test]
    fn base64_is_that_of_everybody() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfb]), "//77");
    }

    #[test]
    fn the_bundle_and_its_licences_are_those_that_were_built() {
        let assets = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline/dashboard/assets");
        let sums = std::fs::read_to_string(assets.join("SHA256SUMS")).unwrap();
        assert!(sums.contains("echarts.min.js") && sums.contains("NOTICE"));
        for line in sums.lines() {
            let (sum, name) = line.split_once("  ").unwrap();
            let found = Sha256::digest(std::fs::read(assets.join(name)).unwrap());
            assert_eq!(hex::encode(found), sum, "{name}: build it with bundle/build.sh");
        }
        assert!(CHARTS.contains("Apache License 2.0") && CHARTS.contains("Baidu Inc."));
    }

    #[test]
    fn scripts_and_styles_stand_in_a_page_as_they_are() {
        // A parser of HTML would end, or read otherwise, what holds these, and its hash would be another.
        for text in [CHARTS, &script(), STYLE] {
            for wrong in ["</script", "</style", "<script", "<!--", "\r"] {
                assert!(!text.to_lowercase().contains(wrong), "{wrong}");
            }
        }
    }

    #[test]
    fn names_cannot_leave_their_place() {
        let hostile = "</script><svg/onload=alert(1)>{{style}}";
        let page = offline(&document(hostile)).unwrap();
        assert!(!page.contains("<svg/onload"));
        assert!(page.contains(r#""title":"\u003c/script>\u003csvg/onload=alert(1)>{{style}}""#));
        assert!(page.contains("<title>&lt;/script&gt;&lt;svg/onload=alert(1)&gt;{{style}}</title>"));
        assert_eq!(page.matches("</script>").count(), 3);
    }

    #[test]
    fn a_file_may_reach_for_nothing_and_a_live_page_for_its_server() {
        let page = offline(&document("x")).unwrap();
        assert!(page.contains("default-src 'none'") && !page.contains("connect-src"));
        assert!(live("x").contains("connect-src 'self'"));
        let is_outside = regex::Regex::new(r#"(src|href|action)\s*=\s*"?(https?:)?//"#).unwrap();
        assert!(!is_outside.is_match(&page));
    }
}
