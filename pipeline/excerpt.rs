//! A place in a text, shown to people: its lines with a mark under it.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::error::Place;

/// Longer lines are cut around the place.
const WIDTH: usize = 120;

/// The lines around a place, numbered, with a mark under it.
pub fn excerpt(place: &Place) -> String {
    let annotation = AnnotationKind::Primary.span(place.span.clone());
    let snippet = Snippet::source(place.text.as_str()).line_start(place.first_line).annotation(annotation);
    let group = Group::with_level(Level::ERROR).element(snippet);
    Renderer::plain().term_width(WIDTH).render(&[group])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_shown_with_a_mark_under_the_place() {
        let text = "select channel,\n    chanel\nfrom events".to_string();
        let at = text.find("chanel").unwrap();
        let place = Place { span: at..at + 6, text, first_line: 7 };
        assert_eq!(excerpt(&place), "  |\n8 |     chanel\n  |     ^^^^^^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("select {} chanel {}", "1, ".repeat(200), ", 2".repeat(200));
        let at = text.find("chanel").unwrap();
        let shown = excerpt(&Place { span: at..at + 6, text, first_line: 1 });
        assert!(shown.contains("chanel") && shown.contains("^^^^^^"), "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() <= WIDTH + 8), "{shown}");
    }
}
