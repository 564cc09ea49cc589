//! Synthetic customers: who they are, when they come and what a visit of theirs looks like.
//!
//! Everything about a customer is a pure function of the seed and the customer's number, and everything in a visit of
//! those and the visit's number, so nothing has to be kept between visits. Only sums, products, quotients and square
//! roots are used, which are exact by IEEE 754: the same seed gives the same bytes on every machine.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Options;
use super::clock::{Clock, DAY, HOUR, MINUTE, SECOND};
use super::world::{CAMPAIGNS, Channel, MESSAGE_CAMPAIGNS, Pace, Place, World};

/// A visit never has more touches.
const MOST_TOUCHES: u16 = 40;
/// A customer never has more visits.
const MOST_VISITS: f64 = 400.0;
/// Customers of old are seen again within so long.
const SEEN_AGAIN: i64 = 30 * DAY;
/// Two visits of a customer lie at least so far apart.
const REST: i64 = 31 * MINUTE;

/// All that customers have in common.
pub(super) struct Population {
    seed: u64,
    duplicate_share: f64,
    late_share: f64,
    pub(super) world: World,
    pub(super) clock: Clock,
}

/// A visit to come: the touches from `start` on until the customer leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Visit {
    /// Microseconds from the start of the period.
    pub(super) start: i64,
    pub(super) customer: u32,
    pub(super) ordinal: u16,
}

/// One delivery of one event. Times are microseconds from the start of the period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Touch {
    pub(super) received: i64,
    pub(super) occurred: i64,
    /// Customer, visit and step: unique to the event.
    pub(super) number: u64,
    /// Random bits for what else there is to say about the event.
    pub(super) detail: u64,
    pub(super) place: Place,
    pub(super) delivery: Delivery,
    /// Hash of the device or cookie.
    pub(super) device: Option<u64>,
    pub(super) is_logged_in: bool,
    pub(super) shows_email: bool,
    pub(super) shows_phone: bool,
    pub(super) shows_loyalty: bool,
    /// Position in [`CAMPAIGNS`].
    pub(super) campaign: Option<u8>,
    pub(super) variant: Option<Variant>,
    pub(super) cents: Option<u32>,
    pub(super) score: Option<(ScoreKind, u8)>,
}

/// Side of an A/B test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    A,
    B,
}

impl Variant {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }
}

/// What a survey asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScoreKind {
    /// Satisfaction, 1 to 5.
    Csat,
    /// Ease, 1 to 7.
    Ces,
    /// Readiness to recommend, 0 to 10.
    Nps,
}

impl ScoreKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Csat => "csat",
            Self::Ces => "ces",
            Self::Nps => "nps",
        }
    }
}

/// How often the source sent the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Delivery {
    /// Once.
    Only,
    /// The first of two.
    First,
    /// The same event again, received later.
    Again,
}

impl Touch {
    pub(super) fn customer(&self) -> u32 {
        (self.number >> 32) as u32
    }
}

/// What is lasting about a customer, told from the bits of one hash.
struct Traits {
    has_account: bool,
    gives_email: bool,
    gives_phone: bool,
    is_member: bool,
    prefers_app_login: bool,
    clears_cookies: bool,
    lapses: bool,
    devices: u64,
    /// The first device is also that of the customer with the number before.
    shares_device: bool,
}

impl Population {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            seed: mix(options.seed),
            duplicate_share: options.duplicate_share,
            late_share: options.late_share,
            world: World::new(),
            clock: Clock::new(options.start, options.days),
        }
    }

    /// Random bits that belong to a customer and a purpose. Distinct customers have distinct bits.
    pub(super) fn bits(&self, purpose: Purpose, customer: u32) -> u64 {
        mix(self.seed ^ mix(purpose as u64) ^ u64::from(customer))
    }

    /// Random bits that belong to an event and a purpose. Distinct events have distinct bits.
    pub(super) fn event_bits(&self, purpose: Purpose, number: u64) -> u64 {
        mix(self.seed ^ mix(purpose as u64) ^ number)
    }

    fn traits(&self, customer: u32) -> Traits {
        let bits = self.bits(Purpose::Traits, customer);
        let is = |position: u32, percent: u64| (bits >> (position * 7) & 127) * 100 < percent * 128;
        Traits {
            has_account: is(0, 58),
            gives_email: is(1, 70),
            gives_phone: is(2, 48),
            is_member: is(3, 36),
            prefers_app_login: is(4, 60),
            clears_cookies: is(5, 14),
            lapses: is(6, 9),
            devices: 1 + u64::from(is(7, 46)) + u64::from(is(8, 16)),
            // Only odd numbers share, so that a device never has more than two owners.
            shares_device: customer % 2 == 1 && mix(bits) % 100 < 5,
        }
    }

    /// Active time at which a customer is first seen. A fifth were customers before the period began: most of them are
    /// seen again soon, so that the first days are as busy as the others.
    pub(super) fn arrival(&self, customer: u32) -> i64 {
        let bits = self.bits(Purpose::Arrival, customer);
        let chance = unit(bits);
        let length = self.clock.length();
        let arrival = match bits % 5 {
            0 => (1.0 - (1.0 - chance).sqrt()) * length.min(SEEN_AGAIN) as f64,
            _ => chance * length as f64,
        };
        arrival as i64
    }

    /// How often a customer comes: mostly a few times, some a hundred times.
    fn visits(&self, customer: u32) -> f64 {
        let chance = unit(self.bits(Purpose::Visits, customer));
        (1.0 + 2.0 * odds(chance)).floor().min(MOST_VISITS)
    }

    /// The visit after one that ended at `ended`, unless it was the customer's last in the period.
    pub(super) fn next_visit(&self, visit: Visit, ended: i64) -> Option<Visit> {
        let Visit { customer, ordinal, .. } = visit;
        let visits = self.visits(customer);
        let next = ordinal + 1;
        if f64::from(next) >= visits {
            return None;
        }
        let rhythm = unit(self.bits(Purpose::Rhythm, customer));
        let usual_days = (1.2 + 9.0 * rhythm * rhythm).min(60.0 / visits);
        let bits = mix(self.bits(Purpose::Gap, customer) ^ u64::from(next));
        let mut gap = (usual_days * odds(unit(bits)) * DAY as f64) as i64;
        if f64::from(next) == (visits / 2.0).floor() && self.traits(customer).lapses {
            gap += (bits % 30 + 31) as i64 * DAY;
        }
        let rested = self.clock.active(ended + REST);
        let start = self.clock.calendar(rested + gap)?;
        Some(Visit { start, customer, ordinal: next })
    }

    /// Adds the touches of a visit, re-deliveries included, and returns when the visit ended.
    pub(super) fn walk(&self, visit: Visit, touches: &mut Vec<Touch>) -> i64 {
        let Visit { start, customer, ordinal } = visit;
        let traits = self.traits(customer);
        let mut dice = Dice::new(self.seed, customer, ordinal);
        let (cookie, app) = self.device(customer, ordinal, &traits, &mut dice);
        let app_login = traits.prefers_app_login && dice.chance(0.8);
        let mut is_logged_in = false;
        let mut annoyance = 0.0;
        let mut asked = ScoreKind::Csat;

        let mut position = self.world.enter(dice.bits());
        let campaign = self.campaign(self.world.place(position).channel, &mut dice);
        let variant = campaign.filter(|campaign| CAMPAIGNS[usize::from(*campaign)].1).map(|campaign| {
            let side = mix(self.bits(Purpose::Variant, customer) ^ u64::from(campaign));
            if side & 1 == 0 { Variant::A } else { Variant::B }
        });

        let mut time = start;
        let mut ended = start;
        for step in 0..MOST_TOUCHES {
            let place = self.world.place(position);
            let touchpoint = self.world.touchpoint(place);
            let channel = place.channel;
            if step > 0 {
                time += wait(touchpoint.pace, &mut dice);
            }
            if time >= self.clock.length() {
                break;
            }
            ended = time;

            let name = touchpoint.name;
            is_logged_in |= traits.has_account && logs_in(name);
            let in_app = channel == Channel::MobileApp && traits.has_account && app_login;
            let on_screen = matches!(channel, Channel::Web | Channel::MobileApp | Channel::Chat);
            let at_counter = matches!(channel, Channel::Store | Channel::Kiosk);
            match name {
                "payment_failed" | "return_start" => annoyance += 0.2,
                "complaint" => annoyance += 0.35,
                "call" | "chat_session" => asked = ScoreKind::Ces,
                "purchase" | "order_confirmation" => asked = ScoreKind::Nps,
                "delivery_notice" | "pickup" => asked = ScoreKind::Csat,
                _ => {}
            }
            let says_all = channel.is_advertising() || channel.is_message() || name == "landing_page";
            let shows_loyalty = traits.is_member && (at_counter || name.starts_with("loyalty_"));
            let needs_receipt = at_counter && !shows_loyalty;
            let mut touch = Touch {
                received: time + self.delay(&mut dice),
                occurred: time,
                number: u64::from(customer) << 32 | u64::from(ordinal) << 16 | u64::from(step),
                detail: dice.bits(),
                place,
                delivery: Delivery::Only,
                device: match channel {
                    Channel::Web | Channel::Chat => Some(cookie),
                    Channel::MobileApp | Channel::Push => Some(app),
                    channel if channel.is_advertising() => Some(cookie),
                    _ => None,
                },
                is_logged_in: on_screen && (is_logged_in || in_app),
                shows_email: channel == Channel::Email || traits.gives_email && (needs_receipt || gives_email(name)),
                shows_phone: matches!(channel, Channel::Sms | Channel::CallCenter)
                    || traits.gives_phone && (needs_receipt || name == "payment_info"),
                shows_loyalty,
                campaign: campaign.filter(|_| says_all),
                variant: variant.filter(|_| says_all),
                cents: (name == "purchase").then(|| (dice.around(42.0).clamp(2.0, 4000.0) * 100.0) as u32),
                score: (name == "survey_response").then(|| score(asked, annoyance, &mut dice)),
            };
            if dice.chance(self.duplicate_share) {
                touch.delivery = Delivery::First;
                touches.push(touch);
                let later = ((dice.around(20.0) * SECOND as f64) as i64).clamp(SECOND, DAY);
                touch = Touch { received: touch.received + later, delivery: Delivery::Again, ..touch };
            }
            touches.push(touch);

            let mut next = self.world.leave(position, dice.bits());
            if next.is_none() && variant == Some(Variant::B) && touchpoint.stage == "conversion" && dice.chance(0.25) {
                // What is tested works: some who would have left think again.
                next = self.world.leave(position, dice.bits());
            }
            let Some(next) = next else { break };
            position = next;
        }
        ended
    }

    /// The cookie and the app installation that a visit is seen by.
    fn device(&self, customer: u32, ordinal: u16, traits: &Traits, dice: &mut Dice) -> (u64, u64) {
        let device = dice.below(traits.devices);
        let is_shared = traits.shares_device && device == 0;
        let owner = if is_shared { customer - 1 } else { customer };
        let cleared = if traits.clears_cookies && !is_shared { u64::from(ordinal) / 4 } else { 0 };
        let installation = mix(self.bits(Purpose::Device, owner) ^ device << 32);
        (mix(installation ^ cleared), mix(!installation))
    }

    fn campaign(&self, channel: Channel, dice: &mut Dice) -> Option<u8> {
        let (first, count) = match channel {
            channel if channel.is_message() => (0, MESSAGE_CAMPAIGNS),
            channel if channel.is_advertising() => (MESSAGE_CAMPAIGNS, CAMPAIGNS.len() - MESSAGE_CAMPAIGNS),
            _ => return None,
        };
        let chance = dice.unit();
        dice.chance(0.75).then(|| (first + (chance * chance * count as f64) as usize) as u8)
    }

    /// How long an event is on its way to whoever receives it.
    fn delay(&self, dice: &mut Dice) -> i64 {
        if dice.chance(self.late_share) {
            let share = dice.unit();
            return HOUR + (share * share * share * (7 * DAY - HOUR) as f64) as i64;
        }
        ((dice.around(2.0) * SECOND as f64) as i64).clamp(50_000, 20 * MINUTE)
    }
}

fn logs_in(touchpoint: &str) -> bool {
    let known_only = ["login", "account_create", "account_view", "payment_info", "reorder", "subscription_start"];
    known_only.contains(&touchpoint) || touchpoint.starts_with("loyalty_")
}

fn gives_email(touchpoint: &str) -> bool {
    ["purchase", "newsletter_signup", "account_create", "login", "quote_request"].contains(&touchpoint)
}

fn wait(pace: Pace, dice: &mut Dice) -> i64 {
    let (usual, least, most) = match pace {
        Pace::Seconds => (24 * SECOND, SECOND, HOUR),
        Pace::Minutes => (4 * MINUTE, 5 * SECOND, 6 * HOUR),
        Pace::Hours => (2 * HOUR, MINUTE, 3 * DAY),
        Pace::Days => (40 * HOUR, HOUR, 12 * DAY),
    };
    (dice.around(usual as f64) as i64).clamp(least, most)
}

/// An answer to a survey: the better of two moods, less what annoyed the customer on the way.
fn score(kind: ScoreKind, annoyance: f64, dice: &mut Dice) -> (ScoreKind, u8) {
    let mood = (dice.unit().max(dice.unit()) - annoyance).clamp(0.0, 0.999);
    let score = match kind {
        ScoreKind::Csat => 1.0 + mood * 5.0,
        ScoreKind::Ces => 1.0 + mood * 7.0,
        ScoreKind::Nps => mood * 11.0,
    };
    (kind, score as u8)
}

/// What random bits are for, so that bits for one purpose say nothing about another.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    Traits = 1,
    Arrival,
    Visits,
    Rhythm,
    Gap,
    Variant,
    Device,
    User,
    Email,
    Phone,
    Loyalty,
    EventHigh,
    EventLow,
    Defect,
}

/// A bijection of 64-bit numbers that looks random: the finaliser of SplitMix64 (Steele, Lea and Flood,
/// "Fast splittable pseudorandom number generators", 2014).
pub(super) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Bits as a number of [0, 1).
pub(super) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// Quantile of a log-logistic distribution of median 1 and shape 2: skewed like waiting times and prices.
fn odds(chance: f64) -> f64 {
    (chance / (1.0 - chance)).sqrt()
}

/// The random numbers of one visit.
struct Dice(ChaCha8Rng);

impl Dice {
    fn new(seed: u64, customer: u32, ordinal: u16) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..12].copy_from_slice(&customer.to_le_bytes());
        key[12..14].copy_from_slice(&ordinal.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn unit(&mut self) -> f64 {
        unit(self.bits())
    }

    fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    fn below(&mut self, count: u64) -> u64 {
        self.bits() % count
    }

    /// A positive number that is mostly near `usual` and now and then far above.
    fn around(&mut self, usual: f64) -> f64 {
        usual * odds(self.unit())
    }
}
