//! The words by which columns, touchpoints and channels are recognised, in English and German.

use super::sample::Column;

/// Names of a meaning, the surest first.
pub type Names = &'static [&'static str];

#[rustfmt::skip]
pub const EVENT_ID: Names = &[
    "event_id", "message_id", "event_uuid", "insert_id", "uuid", "guid", "hit_id", "record_id", "id", "ereignis_id",
    "interaction_id", "call_id", "ticket_id", "receipt", "receipt_id", "transaction_id", "order_id", "bon_nr",
    "beleg_nr", "belegnummer", "bestellnummer"
];

#[rustfmt::skip]
pub const OCCURRED_AT: Names = &[
    "occurred_at", "event_time", "event_timestamp", "event_at", "event_ts", "event_datetime", "happened_at",
    "derived_tstamp", "timestamp", "time_stamp", "ts", "datetime", "date_time", "original_timestamp", "time",
    "client_timestamp", "created_at", "created", "started_at", "started", "start_time", "sold_at", "sold", "sent_at",
    "opened_at", "clicked_at", "called_at", "order_date", "purchased_at", "visited_at", "viewed_at", "event_date",
    "zeitpunkt", "zeitstempel", "datum", "date", "zeit", "when", "at", "day", "tag"
];

#[rustfmt::skip]
pub const RECEIVED_AT: Names = &[
    "received_at", "received", "received_time", "receive_time", "ingested_at", "ingested", "collector_tstamp",
    "server_timestamp", "server_time", "arrived_at", "inserted_at", "loaded_at", "etl_tstamp", "uploaded_at",
    "empfangen_am", "eingegangen_am"
];

/// Times that are no time of an event.
#[rustfmt::skip]
pub const OTHER_TIMES: Names = &[
    "birth", "birthday", "dob", "geburt", "geburtsdatum", "expires", "expiry", "valid", "until", "signup",
    "registered"
];

#[rustfmt::skip]
pub const TOUCHPOINT: Names = &[
    "touchpoint", "event_name", "event_type", "event", "action", "activity", "interaction", "interaction_type",
    "action_type", "event_action", "ereignis", "aktion", "vorgang", "kontaktgrund", "reason", "type", "typ", "what",
    "page", "page_name", "screen", "screen_name", "step", "stage_name", "subject", "status", "disposition",
    "category", "name", "kategorie"
];

#[rustfmt::skip]
pub const CHANNEL: Names = &[
    "channel", "kanal", "channel_name", "contact_channel", "platform", "plattform", "medium", "device_type", "device",
    "channel_type"
];

pub const DIRECTION: Names = &["direction", "richtung", "call_direction"];
pub const STAGE: Names = &["stage", "lifecycle_stage", "journey_stage", "phase"];

#[rustfmt::skip]
pub const VALUE: Names = &[
    "revenue", "purchase_revenue", "order_value", "order_total", "total_amount", "grand_total", "amount", "total",
    "value", "turnover", "gmv", "sales", "umsatz", "betrag", "gesamtbetrag", "bestellwert", "summe", "paid", "price",
    "preis"
];
pub const CURRENCY: Names = &["currency", "currency_code", "waehrung", "währung"];
#[rustfmt::skip]
pub const CAMPAIGN: Names = &[
    "campaign", "campaign_name", "utm_campaign", "mkt_campaign", "campaign_id", "kampagne", "acquisition_channel",
    "utm_source"
];
pub const EXPERIMENT: Names = &["experiment", "experiment_name", "experiment_id", "ab_test", "test_name"];
pub const VARIANT: Names = &["variant", "variation", "experiment_variant", "test_group", "ab_group"];
pub const SCORE_KIND: Names = &["score_kind", "survey_kind", "survey_type", "score_type"];
pub const SCORE: Names = &["score", "survey_score", "rating", "bewertung"];

/// Kinds of identifiers with the names of their columns.
#[rustfmt::skip]
pub const IDENTIFIERS: [(&str, Names); 8] = [
    (
        "user_id",
        &[
            "user_id", "userid", "user_no", "uid", "account_id", "member_id", "login", "username", "user",
            "nutzer_id", "benutzer_id", "contact_id"
        ],
    ),
    (
        "customer_id",
        &[
            "customer_id", "customer_no", "customer_number", "customer", "client_no", "kunden_id", "kundennummer",
            "kunden_nr", "kundennr", "kd_nr", "kunde", "crm_id", "person_id"
        ],
    ),
    (
        "loyalty_id",
        &["loyalty_id", "loyalty", "loyalty_card", "card_number", "card_no", "kundenkarte", "membership_no"],
    ),
    ("email", &["email", "e_mail", "email_address", "mail", "recipient", "user_email", "customer_email"]),
    (
        "phone",
        &["phone", "phone_number", "mobile", "telephone", "tel", "telefon", "mobil", "msisdn", "caller", "rufnummer"],
    ),
    (
        "device_id",
        &["device_id", "device", "device_userid", "idfa", "idfv", "gaid", "adid", "advertising_id", "geraet_id"],
    ),
    (
        "anonymous_id",
        &[
            "anonymous_id", "anon_id", "anon", "visitor_id", "visitor", "cookie_id", "cookie", "user_pseudo_id",
            "domain_userid", "client_id", "distinct_id", "besucher_id"
        ],
    ),
    ("network_userid", &["network_userid"]),
];

/// A name as words joined by `_`: `E-Mail` is `e_mail`, `anonymousId` is `anonymous_id`.
pub fn folded(name: &str) -> String {
    let mut words = String::new();
    let mut before = ' ';
    for c in name.trim().chars() {
        if c.is_uppercase() && (before.is_lowercase() || before.is_ascii_digit()) {
            words.push('_');
        }
        match c.is_alphanumeric() {
            true => words.extend(c.to_lowercase()),
            false if !words.ends_with('_') => words.push('_'),
            false => {}
        }
        before = c;
    }
    words.trim_matches('_').to_string()
}

/// How well a column's name is one of some names: the less, the better; none if it is not. A name at the top comes
/// before one below others, and either before a name that only ends so.
pub fn rank(column: &Column, names: Names) -> Option<usize> {
    let words: Vec<String> = column.path.iter().map(|name| folded(name)).collect();
    let (last, joined) = (without_unit(words.last()?), words.join("_"));
    let joined = without_unit(&joined);
    let depth = words.len() - 1;
    let at = |name: &str| names.iter().position(|known| *known == name);
    if let Some(place) = at(last).or_else(|| at(joined)) {
        return Some(place * 8 + depth.min(7));
    }
    let ends = |known: &&str| known.len() > 3 && joined.strip_suffix(known).is_some_and(|rest| rest.ends_with('_'));
    names.iter().position(ends).map(|place| 1_000 + place * 8 + depth.min(7))
}

/// A name without the currency that it ends with: `betrag_eur` is `betrag`.
fn without_unit(name: &str) -> &str {
    let units = ["eur", "usd", "gbp", "chf", "cents", "cent"];
    match name.rsplit_once('_') {
        Some((rest, last)) if units.contains(&last) => rest,
        _ => name,
    }
}

/// Whether a word of a column's name is among some.
pub fn mentions(column: &Column, words: Names) -> bool {
    column.path.iter().any(|name| folded(name).split('_').any(|word| words.contains(&word)))
}

/// Channels by words in the name of a source; the first that is found counts.
#[rustfmt::skip]
const CHANNELS: [(&str, Names); 11] = [
    ("mobile_app", &["app", "apps", "mobile", "ios", "android"]),
    ("email", &["email", "emails", "mail", "mails", "newsletter", "mailing"]),
    ("call_center", &["call", "calls", "callcenter", "phone", "telephony", "hotline", "telefon", "anrufe"]),
    ("chat", &["chat", "chats", "chatbot", "messenger", "whatsapp"]),
    ("store", &["store", "stores", "pos", "retail", "branch", "filiale", "filialen", "laden", "kasse"]),
    ("sms", &["sms"]),
    ("push", &["push"]),
    ("social", &["social", "facebook", "instagram"]),
    ("display", &["ads", "display", "banner"]),
    ("kiosk", &["kiosk"]),
    ("web", &["web", "website", "site", "browser", "shop", "ecom", "ecommerce", "clickstream", "online"]),
];

/// The channel that the name of a source tells.
pub fn channel_of(source: &str) -> Option<&'static str> {
    let words = folded(source);
    let has = |names: Names| words.split('_').any(|word| names.contains(&word));
    CHANNELS.iter().find(|(_, names)| has(names)).map(|(channel, _)| *channel)
}

/// Whether people serve on a channel.
pub fn is_assisted(channel: &str) -> bool {
    let assisted =
        ["call_center", "chat", "store", "branch", "phone", "call", "filiale", "field", "agent", "callcenter"];
    assisted.iter().any(|word| channel.to_lowercase().contains(word))
}

/// Touchpoints that a business works for, the surest first; the first row of which one is seen gives the goals.
#[rustfmt::skip]
const GOALS: [Names; 3] = [
    &[
        "purchase", "order_completed", "order_placed", "transaction", "order", "sale", "checkout_completed",
        "payment_succeeded", "bought", "kauf", "bestellung", "bestellt", "abschluss"
    ],
    &["subscription_started", "subscribe", "subscribed", "upgrade", "booking", "booked", "contract_signed", "buchung"],
    &[
        "sign_up", "signup", "signed_up", "registration", "registered", "generate_lead", "lead", "form_submit",
        "registrierung"
    ],
];
#[rustfmt::skip]
const NO_GOAL: Names = &[
    "refund", "refunded", "return", "returned", "cancel", "cancelled", "canceled", "failed", "error", "started",
    "start", "abandoned", "updated", "view", "viewed", "storno", "confirmation", "sent", "open", "opened", "click"
];

/// The touchpoints among some that are goals.
pub fn goals<'t>(touchpoints: &[&'t str]) -> Vec<&'t str> {
    for row in GOALS {
        let is_goal = |touchpoint: &&&str| {
            let words = folded(touchpoint);
            let has = |name: &str| {
                words == name || words.ends_with(&format!("_{name}")) || words.starts_with(&format!("{name}_"))
            };
            row.iter().any(|name| has(name)) && !words.split('_').any(|word| NO_GOAL.contains(&word))
        };
        let found: Vec<&str> = touchpoints.iter().filter(is_goal).copied().collect();
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

/// Steps towards a goal, in order, each by words that stand in its touchpoints.
#[rustfmt::skip]
pub const STEPS: [Names; 4] = [
    &[
        "product_view", "product_viewed", "view_item", "product_detail", "product", "produkt", "item_view",
        "produktansicht"
    ],
    &["add_to_cart", "product_added", "added_to_cart", "basket_add", "cart_add", "warenkorb", "cart"],
    &["checkout", "begin_checkout", "checkout_started", "checkout_start", "checkout_step", "kasse"],
    &["add_payment_info", "payment", "payment_details", "payment_info_entered", "zahlung"],
];

/// Lifecycle stages by words that stand in their touchpoints; the first that is found counts.
#[rustfmt::skip]
pub const STAGES: [(&str, Names); 7] = [
    ("repurchase", &["reorder", "renewal", "renew", "repurchase", "nachbestellung"]),
    (
        "support",
        &[
            "support", "help", "complaint", "return", "returned", "refund", "refunded", "ticket", "error", "contact",
            "faq", "reklamation", "retoure", "hilfe", "bug"
        ],
    ),
    (
        "conversion",
        &[
            "cart", "checkout", "purchase", "order", "payment", "transaction", "basket", "buy", "subscribe",
            "subscription", "booking", "kauf", "bestellung", "warenkorb", "kasse", "zahlung", "shipping", "sale"
        ],
    ),
    (
        "experience",
        &[
            "delivery", "delivered", "survey", "review", "feedback", "account", "login", "signed", "onboarding",
            "download", "install", "foreground", "lieferung", "umfrage"
        ],
    ),
    (
        "evaluation",
        &[
            "product", "item", "compare", "comparison", "wishlist", "pricing", "quote", "demo", "trial", "produkt",
            "vergleich", "detail"
        ],
    ),
    ("discovery", &["search", "catalog", "category", "list", "filter", "browse", "suche", "katalog", "results"]),
    (
        "awareness",
        &[
            "home", "landing", "ad", "impression", "promo", "promotion", "email", "newsletter", "session", "first",
            "visit", "campaign", "sent", "open", "startseite", "page", "screen"
        ],
    ),
];

/// The stage that a touchpoint's words tell.
pub fn stage_of(touchpoint: &str) -> Option<&'static str> {
    let words = folded(touchpoint);
    let has = |names: Names| words.split('_').any(|word| names.contains(&word));
    STAGES.iter().find(|(_, names)| has(names)).map(|(stage, _)| *stage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folded_to_words() {
        for (name, expected) in [
            ("anonymousId", "anonymous_id"),
            ("E-Mail", "e_mail"),
            ("Kunden-Nr.", "kunden_nr"),
            ("Order Completed", "order_completed"),
            ("$device_id", "device_id"),
            ("utm_campaign", "utm_campaign"),
        ] {
            assert_eq!(folded(name), expected);
        }
    }

    #[test]
    fn goals_are_told_from_what_only_sounds_like_one() {
        assert_eq!(goals(&["Order Completed", "Order Refunded", "Product Viewed"]), ["Order Completed"]);
        assert_eq!(goals(&["sign_up", "purchase", "refund"]), ["purchase"]);
        assert_eq!(goals(&["sign_up", "home"]), ["sign_up"]);
        assert!(goals(&["home", "order_confirmation_view"]).is_empty());
    }

    #[test]
    fn a_better_name_has_the_smaller_rank() {
        let column =
            |path: &[&str]| Column { path: path.iter().map(|name| (*name).to_string()).collect(), ..Column::default() };
        let ranked = |path: &[&str]| rank(&column(path), OCCURRED_AT);
        assert!(ranked(&["occurred_at"]) < ranked(&["timestamp"]));
        assert!(ranked(&["timestamp"]) < ranked(&["meta", "timestamp"]));
        assert!(ranked(&["meta", "timestamp"]) < ranked(&["shop_timestamp"]));
        assert_eq!(ranked(&["colour"]), None);
    }
}
