//! The world that synthetic customers live in: touchpoints, channels, stages, campaigns and what follows what.
//!
//! A visit walks over places, a place being a touchpoint on a channel. From each place the table below says how many
//! visits end there and where named shares of the others go on to; the rest spread by how common a touchpoint is, how
//! near its stage lies and how easily its channel is reached from the present one.

/// The medium of a touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Web,
    MobileApp,
    Email,
    Sms,
    Push,
    Social,
    PaidSearch,
    Display,
    CallCenter,
    Store,
    Chat,
    Kiosk,
}

impl Channel {
    pub(super) const ALL: [Self; 12] = [
        Self::Web,
        Self::MobileApp,
        Self::Email,
        Self::Sms,
        Self::Push,
        Self::Social,
        Self::PaidSearch,
        Self::Display,
        Self::CallCenter,
        Self::Store,
        Self::Chat,
        Self::Kiosk,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::MobileApp => "mobile_app",
            Self::Email => "email",
            Self::Sms => "sms",
            Self::Push => "push",
            Self::Social => "social",
            Self::PaidSearch => "paid_search",
            Self::Display => "display",
            Self::CallCenter => "call_center",
            Self::Store => "store",
            Self::Chat => "chat",
            Self::Kiosk => "kiosk",
        }
    }

    /// The system that sees the channel and sends its events.
    pub(super) fn source(self) -> &'static str {
        match self {
            Self::Web | Self::Chat => "web",
            Self::MobileApp => "app",
            Self::Email => "email",
            Self::Sms | Self::Push => "crm",
            Self::Social | Self::PaidSearch | Self::Display => "ads",
            Self::CallCenter => "callcenter",
            Self::Store | Self::Kiosk => "pos",
        }
    }

    /// The brand writes to people whom it knows.
    pub(super) fn is_message(self) -> bool {
        matches!(self, Self::Email | Self::Sms | Self::Push)
    }

    /// Seen by an installed app.
    pub(super) fn is_app(self) -> bool {
        matches!(self, Self::MobileApp | Self::Push)
    }

    pub(super) fn is_advertising(self) -> bool {
        matches!(self, Self::Social | Self::PaidSearch | Self::Display)
    }

    /// How easily a customer goes on from this channel to another; staying is 1.
    fn pull(self, to: Self) -> f64 {
        use Channel::{CallCenter, Chat, Display, Email, Kiosk, MobileApp, PaidSearch, Push, Sms, Social, Store, Web};
        match (self, to) {
            (from, to) if from == to => 1.0,
            (Push, MobileApp) => 1.6,
            (Email | PaidSearch, Web) => 1.0,
            (Sms | Display, Web) | (Sms, MobileApp) => 0.7,
            (Social | Chat, Web) => 0.6,
            (Email | Social | PaidSearch | Display | Chat, MobileApp) => 0.3,
            (Kiosk, Store) => 0.4,
            (Store, Kiosk | MobileApp) | (CallCenter, Web) => 0.12,
            (Web | MobileApp, Chat) | (Chat, CallCenter) => 0.06,
            (Web, MobileApp) | (MobileApp, Web | Store) => 0.04,
            (Web, CallCenter | Email | Store) => 0.03,
            _ => 0.01,
        }
    }
}

const STAGES: [&str; 7] = ["awareness", "discovery", "evaluation", "conversion", "experience", "support", "repurchase"];

/// How readily a touch of one stage (row) is followed by one of another (column).
const STAGE_PULL: [[f64; 7]; 7] = [
    [1.0, 5.0, 4.0, 0.6, 0.1, 0.2, 0.1],
    [0.2, 5.0, 7.0, 0.8, 0.1, 0.3, 0.2],
    [0.1, 2.5, 6.0, 2.5, 0.1, 0.3, 0.2],
    [0.1, 1.0, 2.5, 6.0, 0.8, 0.4, 0.4],
    [0.1, 0.8, 0.5, 0.3, 4.0, 2.0, 1.0],
    [0.1, 0.5, 0.4, 0.2, 1.0, 6.0, 0.3],
    [0.1, 1.0, 1.5, 3.0, 1.0, 0.2, 2.0],
];

/// How long a touch usually lets wait for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    Seconds,
    Minutes,
    Hours,
    Days,
}

/// A named place of contact.
pub(super) struct Touchpoint {
    pub(super) name: &'static str,
    pub(super) stage: &'static str,
    pub(super) direction: &'static str,
    pub(super) pace: Pace,
    channels: Vec<(Channel, f64)>,
    opens: f64,
    common: f64,
    ends: f64,
    then: Vec<(&'static str, f64)>,
}

/// `opens`: weight as the first touch of a visit. `common`: weight as a touch that nothing in particular led to.
/// `ends`: percent of visits that end there. `then`: percent of those who go on, by where they go.
const TOUCHPOINTS: &str = "
# name             stage       direction opens common ends pace    channels                                     then
ad_impression      awareness   outbound  18    0      78   seconds display:5,social:4,paid_search:2             ad_click:85,social_post_view:8
ad_click           awareness   inbound   8     0      4    seconds paid_search:5,social:3,display:2             landing_page:86
social_post_view   awareness   inbound   5     0.6    60   seconds social:1                                     ad_click:16,social_share:8
social_share       awareness   inbound   0.4   0.3    55   seconds social:1                                     -
email_sent         awareness   outbound  20    0      64   seconds email:1                                      email_open:98
email_open         awareness   inbound   2     0      58   hours   email:1                                      email_click:94
email_click        awareness   inbound   2     0      4    seconds email:1                                      landing_page:52,product_view:30
sms_sent           awareness   outbound  6     0      82   seconds sms:1                                        sms_click:98
sms_click          awareness   inbound   1     0      6    minutes sms:1                                        landing_page:60,product_view:28
push_sent          awareness   outbound  12    0      84   seconds push:1                                       push_open:98
push_open          awareness   inbound   2     0      7    minutes push:1                                       home_view:38,product_view:34
landing_page       awareness   inbound   8     0.4    36   seconds web:7,mobile_app:1                           product_view:30,category_view:16
store_visit        awareness   inbound   7     0.3    26   hours   store:1                                      catalog_browse:28,purchase:34
home_view          discovery   inbound   15    3      20   seconds web:5,mobile_app:6                           search:18,category_view:20
search             discovery   inbound   5     5      12   seconds web:5,mobile_app:4,kiosk:1                   product_view:34,search:16
category_view      discovery   inbound   4     5      12   seconds web:5,mobile_app:4,kiosk:1                   product_view:38,category_view:14
blog_read          discovery   inbound   3     0.8    46   minutes web:1                                        newsletter_signup:6
video_view         discovery   inbound   2     0.8    38   seconds web:3,social:3,mobile_app:2                  product_view:24
store_locator      discovery   inbound   1     0.5    42   seconds web:2,mobile_app:3                           store_visit:42
catalog_browse     discovery   inbound   1.5   0.8    20   minutes kiosk:3,store:2                              purchase:24,price_check:20
newsletter_signup  discovery   inbound   0.3   0.2    40   seconds web:1                                        -
app_install        discovery   inbound   0.6   0.1    12   minutes mobile_app:1                                 account_create:24,login:30
product_view       evaluation  inbound   7     5      14   seconds web:6,mobile_app:6,kiosk:1                   add_to_cart:14,product_view:22,review_read:9
compare            evaluation  inbound   0.2   1.4    14   seconds web:3,mobile_app:2                           product_view:40
review_read        evaluation  inbound   0.6   2      14   seconds web:3,mobile_app:3                           add_to_cart:16,product_view:34
wishlist_add       evaluation  inbound   0.2   0.8    22   seconds web:2,mobile_app:4                           -
price_check        evaluation  inbound   0.8   0.6    26   minutes kiosk:2,store:2,mobile_app:3                 purchase:12
size_guide         evaluation  inbound   0.1   0.6    15   seconds web:1                                        add_to_cart:22,product_view:40
chat_question      evaluation  inbound   0.8   0.4    18   minutes chat:1                                       product_view:34,agent_inquiry:6
agent_inquiry      evaluation  inbound   1     0.3    36   hours   call_center:1                                quote_request:14,purchase:8
quote_request      evaluation  inbound   0.2   0.2    40   minutes web:2,call_center:1                          purchase:10
account_create     conversion  inbound   0.3   0.2    10   minutes web:3,mobile_app:3                           payment_info:24,home_view:20
login              conversion  inbound   2.5   1.2    8    seconds web:4,mobile_app:4                           payment_info:18,home_view:22
add_to_cart        conversion  inbound   0.3   0.6    14   seconds web:5,mobile_app:6                           cart_view:34,checkout_start:26,product_view:18
cart_view          conversion  inbound   1.4   0.6    22   seconds web:5,mobile_app:5                           checkout_start:42,remove_from_cart:10
remove_from_cart   conversion  inbound   0.1   0.1    28   seconds web:3,mobile_app:3                           cart_view:30,product_view:26
coupon_apply       conversion  inbound   0     0.1    10   seconds web:3,mobile_app:3                           payment_info:60,cart_view:16
checkout_start     conversion  inbound   0.2   0.2    17   seconds web:5,mobile_app:5,kiosk:1                   payment_info:54,login:20,account_create:6,coupon_apply:8
payment_info       conversion  inbound   0.1   0      10   minutes web:5,mobile_app:5                           purchase:80,payment_failed:9
payment_failed     conversion  inbound   0     0      36   seconds web:2,mobile_app:2                           payment_info:62,call:9,chat_session:9
purchase           conversion  inbound   0.5   0      16   seconds web:6,mobile_app:6,store:4,kiosk:1,call_center:1 order_confirmation:72,loyalty_join:5,survey_sent:8
order_confirmation experience  outbound  0     0      40   seconds email:5,sms:1                                delivery_notice:60,order_tracking:20
order_tracking     experience  inbound   3     0.4    46   hours   web:3,mobile_app:4                           delivery_notice:24,faq_view:8
delivery_notice    experience  outbound  3     0      52   days    email:4,sms:3,push:3                         survey_sent:38,order_tracking:20,return_start:9,call:4
pickup             experience  inbound   0.8   0.1    50   days    store:1                                      survey_sent:40
survey_sent        experience  outbound  1.6   0      54   hours   email:5,sms:2                                survey_response:97
survey_response    experience  inbound   0     0      74   hours   email:4,web:2,sms:1                          complaint:6
review_write       experience  inbound   0.4   0.2    50   days    web:2,mobile_app:2                           -
account_view       experience  inbound   2     0.5    26   seconds web:3,mobile_app:4                           order_tracking:24,reorder:8
faq_view           support     inbound   1.2   0.5    26   seconds web:3,mobile_app:2                           ticket_open:12,chat_session:16,call:9
ticket_open        support     inbound   0.8   0.2    46   minutes web:2,email:2                                survey_sent:12,call:14
chat_session       support     inbound   2.4   0.3    36   minutes chat:1                                       survey_sent:22,call:14
call               support     inbound   4     0.2    48   minutes call_center:1                                survey_sent:34,refund:5
return_start       support     inbound   0.5   0.1    30   days    web:3,store:2                                return_done:66
return_done        support     inbound   0.3   0      44   days    store:3,web:2                                refund:60
refund             support     outbound  0.2   0      56   hours   web:2,call_center:1                          survey_sent:24
complaint          support     inbound   0.4   0.1    44   hours   call_center:3,email:2,social:2               refund:24,call:18
reorder            repurchase  inbound   1.4   0.2    12   seconds web:3,mobile_app:5                           checkout_start:66
subscription_start repurchase  inbound   0.1   0.1    42   minutes web:2,mobile_app:2                           -
loyalty_join       repurchase  inbound   0.3   0.1    36   minutes store:3,web:2,mobile_app:3                   -
loyalty_redeem     repurchase  inbound   0.4   0.1    26   seconds store:3,web:2,mobile_app:3                   purchase:24
referral_send      repurchase  inbound   0.2   0.1    56   minutes email:2,mobile_app:3,social:2                -
";

/// Campaigns that the brand sends, and whether they carry an A/B test.
pub(super) const CAMPAIGNS: [(&str, bool); 20] = [
    ("winter_sale", true),
    ("new_arrivals", false),
    ("cart_reminder", true),
    ("welcome_series", false),
    ("loyalty_points", false),
    ("win_back", true),
    ("price_alert", false),
    ("weekly_digest", true),
    ("back_in_stock", false),
    ("birthday", false),
    ("brand_search", false),
    ("category_search", true),
    ("retargeting", true),
    ("lookalike_audience", false),
    ("spring_collection", true),
    ("video_story", false),
    ("influencer", false),
    ("store_opening", false),
    ("app_install_bonus", true),
    ("clearance", false),
];
/// The first so many campaigns are messages, the rest advertising.
pub(super) const MESSAGE_CAMPAIGNS: usize = 10;

/// A touchpoint on a channel: where a visit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Position in [`World::touchpoints`].
    pub(super) touchpoint: u8,
    pub(super) channel: Channel,
}

/// Everything that does not depend on the seed.
pub(super) struct World {
    pub(super) touchpoints: Vec<Touchpoint>,
    places: Vec<Place>,
    entries: Alias,
    exits: Vec<Alias>,
}

impl World {
    pub(super) fn new() -> Self {
        let touchpoints: Vec<Touchpoint> = TOUCHPOINTS
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| parse(line).expect("the table above is well formed"))
            .collect();
        let mut places = Vec::new();
        let mut opens = Vec::new();
        for (number, touchpoint) in touchpoints.iter().enumerate() {
            for &(channel, weight) in &touchpoint.channels {
                places.push(Place { touchpoint: number as u8, channel });
                opens.push(touchpoint.opens * weight / touchpoint.channel_total());
            }
        }
        let exits = places.iter().map(|place| Alias::new(&next_weights(&touchpoints, &places, *place))).collect();
        Self { touchpoints, places, entries: Alias::new(&opens), exits }
    }

    /// Where a visit begins.
    pub(super) fn enter(&self, chance: u64) -> usize {
        self.entries.draw(chance)
    }

    /// Where it goes on to, if it goes on.
    pub(super) fn leave(&self, place: usize, chance: u64) -> Option<usize> {
        let next = self.exits[place].draw(chance);
        (next < self.places.len()).then_some(next)
    }

    /// The touchpoint and channel of a place by its number.
    pub(super) fn place(&self, number: usize) -> Place {
        self.places[number]
    }

    pub(super) fn touchpoint(&self, place: Place) -> &Touchpoint {
        &self.touchpoints[usize::from(place.touchpoint)]
    }
}

impl Touchpoint {
    fn channel_total(&self) -> f64 {
        self.channels.iter().map(|(_, weight)| weight).sum()
    }

    fn stage_number(&self) -> usize {
        STAGES.iter().position(|stage| *stage == self.stage).expect("parsed from the list")
    }
}

/// One line of the table; `None` when it is not well formed.
fn parse(line: &'static str) -> Option<Touchpoint> {
    let mut fields = line.split_whitespace();
    let name = fields.next()?;
    let stage = STAGES.into_iter().find(|stage| Some(*stage) == fields.clone().next())?;
    let direction = fields.nth(1)?;
    let mut number = || fields.next()?.parse::<f64>().ok();
    let (opens, common, ends) = (number()?, number()?, number()?);
    let pace = match fields.next()? {
        "seconds" => Pace::Seconds,
        "minutes" => Pace::Minutes,
        "hours" => Pace::Hours,
        "days" => Pace::Days,
        _ => return None,
    };
    let channels = weights(fields.next()?)?
        .into_iter()
        .map(|(name, weight)| Some((Channel::ALL.into_iter().find(|channel| channel.name() == name)?, weight)))
        .collect::<Option<Vec<_>>>()?;
    let then = match fields.next()? {
        "-" => Vec::new(),
        list => weights(list)?,
    };
    Some(Touchpoint { name, stage, direction, pace, channels, opens, common, ends, then })
}

/// `web:2,store:1` as pairs.
fn weights(list: &'static str) -> Option<Vec<(&'static str, f64)>> {
    list.split(',').map(|pair| pair.split_once(':').and_then(|(name, n)| Some((name, n.parse().ok()?)))).collect()
}

/// Probability of each next place, and of the end of the visit as the last one.
fn next_weights(touchpoints: &[Touchpoint], places: &[Place], from: Place) -> Vec<f64> {
    let here = &touchpoints[usize::from(from.touchpoint)];
    let goes_on = 1.0 - here.ends / 100.0;
    let named: f64 = here.then.iter().map(|(_, percent)| percent / 100.0).sum();

    let mut next = vec![0.0; places.len() + 1];
    let mut spread = |total: f64, weight_of: &dyn Fn(&Touchpoint) -> f64| {
        let weights: Vec<f64> = places
            .iter()
            .map(|place| {
                let there = &touchpoints[usize::from(place.touchpoint)];
                let (_, share) =
                    there.channels.iter().find(|(channel, _)| *channel == place.channel).expect("own channel");
                // What the brand sends comes on the channel that the brand chooses.
                let pull = if there.direction == "outbound" { 1.0 } else { from.channel.pull(place.channel) };
                weight_of(there) * pull * share / there.channel_total()
            })
            .collect();
        let sum: f64 = weights.iter().sum();
        for (slot, weight) in next.iter_mut().zip(weights) {
            *slot += total * weight / sum;
        }
    };
    for (name, percent) in &here.then {
        spread(goes_on * percent / 100.0, &|there| if there.name == *name { 1.0 } else { 0.0 });
    }
    let row = STAGE_PULL[here.stage_number()];
    spread(goes_on * (1.0 - named), &|there| there.common * row[there.stage_number()]);
    next[places.len()] = here.ends / 100.0;
    next
}

/// Draws from a fixed distribution in constant time: Walker's alias method in the form of Vose,
/// "A linear algorithm for generating random numbers with a given distribution" (1991).
struct Alias {
    /// For each column the chance (of 2^32) to stay in it, and the column to go to instead.
    columns: Vec<(u32, u8)>,
}

impl Alias {
    fn new(weights: &[f64]) -> Self {
        let count = weights.len();
        let total: f64 = weights.iter().sum();
        let mut heights: Vec<f64> = weights.iter().map(|weight| weight * count as f64 / total).collect();
        let (mut low, mut high): (Vec<usize>, Vec<usize>) = (0..count).partition(|column| heights[*column] < 1.0);
        let mut columns: Vec<(u32, u8)> = (0..count).map(|column| (u32::MAX, column as u8)).collect();
        while let (Some(&small), Some(&large)) = (low.last(), high.last()) {
            low.pop();
            columns[small] = ((heights[small] * f64::from(u32::MAX)) as u32, large as u8);
            heights[large] -= 1.0 - heights[small];
            if heights[large] < 1.0 {
                high.pop();
                low.push(large);
            }
        }
        Self { columns }
    }

    fn draw(&self, chance: u64) -> usize {
        let column = ((chance & 0xffff_ffff) * self.columns.len() as u64) >> 32;
        let (stay, other) = self.columns[column as usize];
        if ((chance >> 32) as u32) < stay { column as usize } else { usize::from(other) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_only_what_it_holds_and_shares_stay_below_the_whole() {
        let world = World::new();
        assert!((55..=66).contains(&world.touchpoints.len()), "{}", world.touchpoints.len());
        assert!(world.places.len() < 255);
        for touchpoint in &world.touchpoints {
            let named: f64 = touchpoint.then.iter().map(|(_, percent)| percent).sum();
            assert!(named < 100.0 && touchpoint.ends < 100.0, "{}", touchpoint.name);
            assert!(["inbound", "outbound"].contains(&touchpoint.direction), "{}", touchpoint.name);
            for (name, _) in &touchpoint.then {
                assert!(world.touchpoints.iter().any(|other| other.name == *name), "{} names {name}", touchpoint.name);
            }
        }
    }

    #[test]
    fn every_stage_and_channel_has_touchpoints() {
        let world = World::new();
        for stage in STAGES {
            assert!(world.touchpoints.iter().any(|touchpoint| touchpoint.stage == stage), "{stage}");
        }
        for channel in Channel::ALL {
            assert!(world.places.iter().any(|place| place.channel == channel), "{}", channel.name());
        }
    }

    #[test]
    fn an_alias_table_draws_each_column_as_often_as_its_weight_says() {
        let alias = Alias::new(&[1.0, 0.0, 5.0, 2.0]);
        let mut drawn = [0_u32; 4];
        for chance in 0..80_000_u64 {
            drawn[alias.draw(chance.wrapping_mul(0x9e37_79b9_7f4a_7c15))] += 1;
        }
        for (count, expected) in drawn.into_iter().zip([10_000_u32, 0, 50_000, 20_000]) {
            assert!(count.abs_diff(expected) < 500, "{drawn:?}");
        }
    }
}
