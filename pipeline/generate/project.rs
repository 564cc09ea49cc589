//! A project around generated files.

use std::path::Path;

use super::{FILE_PREFIX, Options, Summary, generate};
use crate::config::FILE_NAME;
use crate::error::{Context, Error, Result};

/// Folder beside `wayline.toml` that the files lie in.
pub const LANDING_ZONE: &str = "landing-zone";

/// Generates events into the folder [`LANDING_ZONE`] of `folder` as [`generate`] does, then writes `wayline.toml`.
///
/// The project is complete: `wayline run` needs nothing else. Columns that it does not map become an event's
/// properties. Errors: a project that is there already, and those of [`generate`]; one that was cut short has no
/// `wayline.toml` yet, and its files must be removed first.
pub fn project(folder: &Path, options: &Options, progress: impl FnMut(u64)) -> Result<Summary> {
    let path = folder.join(FILE_NAME);
    if path.exists() {
        return Err(Error::invalid(format!("{} is there already", path.display()))
            .hint("choose another folder, or remove the file"));
    }
    let summary = generate(options, &folder.join(LANDING_ZONE), progress)?;
    std::fs::write(&path, configuration(options)).context(format!("while writing {}", path.display()))?;
    Ok(summary)
}

fn configuration(options: &Options) -> String {
    let extension = options.extension();
    format!(
        r#"# Generated events: seed {seed}, {days} days from {start}.

[lake]
url = "lake"

[[sources]]
name = "generated"
path = "{LANDING_ZONE}/{FILE_PREFIX}*.{extension}"
[sources.event]
event_id    = "event_id"
occurred_at = "event_time"
received_at = "received_time"
touchpoint  = "touchpoint"
channel     = "channel"
direction   = "direction"
stage       = "stage"
identifiers = {{ anonymous_id = "anonymous_id", user_id = "user_id", email = "email", phone = "phone", loyalty_id = "loyalty_id" }}
campaign    = "campaign"
experiment  = "case when variant is not null then campaign end"
variant     = "variant"
value       = "value"
currency    = "currency"
score_kind  = "score_kind"
score       = "score"

[sessions]
timeout = "30m"

[journeys]
timeout = "30d"
goal    = ["purchase"]

[channels]
digital  = ["web", "mobile_app", "email", "sms", "push", "social", "paid_search", "display", "kiosk"]
assisted = ["call_center", "chat", "store"]

[[funnels]]
name   = "checkout"
steps  = ["product_view", "add_to_cart", "checkout_start", "purchase"]
window = "7d"

[[funnels]]
name   = "reach"
steps  = ["ad_click|email_click|sms_click|push_open|landing_page", "product_view", "purchase"]
window = "14d"
"#,
        seed = options.seed,
        days = options.days,
        start = options.start,
    )
}
