//! What an event says beside its columns: a small nested object, of another shape on each kind of channel.

use super::chance::mix;
use super::text::Text;
use super::visits::Touch;
use super::world::Channel;

/// Appends the properties of an event as a JSON object.
pub(super) fn push_properties(text: &mut Vec<u8>, touch: &Touch, touchpoint: &str) {
    const QUERIES: [&str; 8] =
        ["winter jacket", "größe 42", "running shoes", "geschenk", "café table", "sale", "blue shirt", "laptop 14\\\""];
    let bits = touch.detail;
    let number = |position: u32, count: u64| (((bits >> position) & 0xffff) * count) >> 16;
    match touch.place.channel {
        Channel::Web | Channel::MobileApp => {
            text.push_str("{\"page\":\"/");
            if matches!(touchpoint, "product_view" | "add_to_cart" | "review_read" | "wishlist_add" | "size_guide") {
                text.push_str("p/");
                text.push_number(number(0, 70) * number(16, 70), 1);
            } else {
                text.push_str(touchpoint);
            }
            if touchpoint == "search" {
                text.push_str("\",\"query\":\"");
                text.push_str(QUERIES[number(0, 8) as usize]);
            }
            text.push_str("\",\"device\":{\"os\":\"");
            let installation = mix(touch.device.unwrap_or_default());
            let (os, screen) = match (touch.place.channel.is_app(), installation % 5) {
                (true, 0..=2) => ("android", "412x915"),
                (true, _) => ("ios", "390x844"),
                (false, 0 | 1) => ("windows", "1920x1080"),
                (false, 2) => ("macos", "1440x900"),
                (false, 3) => ("android", "360x800"),
                (false, _) => ("ios", "393x852"),
            };
            text.push_str(os);
            text.push_str("\",\"screen\":\"");
            text.push_str(screen);
            text.push_str("\",\"locale\":\"");
            text.push_str(["de-DE", "de-AT", "fr-FR", "en-GB", "it-IT"][(installation >> 32) as usize % 5]);
            text.push_str("\"},\"load_ms\":");
            text.push_number(40 + number(32, 60) * number(48, 40), 1);
            if touchpoint == "purchase" {
                text.push_str(",\"items\":");
                text.push_number(1 + number(0, 5), 1);
            }
        }
        Channel::Email | Channel::Sms | Channel::Push => {
            text.push_str("{\"message\":\"m-");
            text.push_number(number(0, 900), 4);
            text.push_str("\",\"client\":{\"name\":\"");
            text.push_str(["mail", "webmail", "phone"][number(16, 3) as usize]);
            text.push_str("\",\"proxy\":");
            text.push_str(["true", "false", "false"][number(32, 3) as usize]);
            text.push(b'}');
        }
        Channel::Social | Channel::PaidSearch | Channel::Display => {
            text.push_str("{\"placement\":\"");
            text.push_str(["feed", "story", "top", "sidebar"][number(0, 4) as usize]);
            text.push_str("\",\"creative\":{\"id\":");
            text.push_number(number(16, 240), 1);
            text.push_str(",\"format\":\"");
            text.push_str(["image", "video", "text"][number(32, 3) as usize]);
            text.push_str("\"}");
        }
        Channel::CallCenter | Channel::Chat => {
            text.push_str("{\"queue\":\"");
            text.push_str(["orders", "billing", "returns", "advice"][number(0, 4) as usize]);
            text.push_str("\",\"wait_seconds\":");
            text.push_number(number(16, 40) * number(32, 20), 1);
            text.push_str(",\"agent\":{\"team\":");
            text.push_number(1 + number(48, 12), 1);
            text.push(b'}');
        }
        Channel::Store | Channel::Kiosk => {
            text.push_str("{\"store\":{\"id\":\"S");
            text.push_number(1 + number(0, 140), 3);
            text.push_str("\",\"till\":");
            text.push_number(1 + number(16, 8), 1);
            text.push(b'}');
        }
    }
    text.push(b'}');
}
