//! What happens in a visit: a pure function of the seed, the customer and the visit's number.

use super::chance::Dice;
use super::clock::{DAY, HOUR, MINUTE, SECOND};
use super::customers::{Population, Traits, Visit};
use super::world::{CAMPAIGNS, Channel, MESSAGE_CAMPAIGNS, Pace, Place};

/// A visit never has more touches.
const MOST_TOUCHES: u16 = 40;

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
    /// Number of the customer whose event it is.
    pub(super) fn customer(&self) -> u32 {
        (self.number >> 32) as u32
    }
}

/// Adds the touches of a visit, re-deliveries included, and returns when the visit ended.
pub(super) fn walk(population: &Population, visit: Visit, touches: &mut Vec<Touch>) -> i64 {
    let mut dice = Dice::new(population.seed, visit.customer, visit.ordinal);
    let mut position = population.world.enter(dice.bits());
    let mut walk = Walk::new(population, visit, population.world.place(position).channel, dice);
    let mut time = visit.start;
    let mut ended = visit.start;
    for step in 0..MOST_TOUCHES {
        let place = population.world.place(position);
        if step > 0 {
            time += wait(population.world.touchpoint(place).pace, &mut walk.dice);
        }
        if time >= population.clock.length() {
            break;
        }
        ended = time;
        let touch = walk.touch(place, step, time);
        walk.deliver(touch, touches);
        let Some(next) = walk.next(position) else { break };
        position = next;
    }
    ended
}

/// A visit under way.
struct Walk<'a> {
    population: &'a Population,
    visit: Visit,
    traits: Traits,
    dice: Dice,
    cookie: u64,
    app: u64,
    campaign: Option<u8>,
    variant: Option<Variant>,
    is_app_logged_in: bool,
    is_logged_in: bool,
    /// What went wrong so far, on a scale where 1 spoils everything.
    annoyance: f64,
    /// What a survey would ask about now.
    asked: ScoreKind,
}

impl<'a> Walk<'a> {
    fn new(population: &'a Population, visit: Visit, entry: Channel, mut dice: Dice) -> Self {
        let traits = population.traits(visit.customer);
        let (cookie, app) = population.installations(visit, dice.below(traits.devices));
        let is_app_logged_in = traits.has_account && traits.stays_logged_in && dice.chance(0.8);
        let campaign = campaign(entry, &mut dice);
        let variant = campaign.and_then(|campaign| population.variant(visit.customer, campaign));
        Self {
            population,
            visit,
            traits,
            dice,
            cookie,
            app,
            campaign,
            variant,
            is_app_logged_in,
            is_logged_in: false,
            annoyance: 0.0,
            asked: ScoreKind::Csat,
        }
    }

    /// The customer is at a place.
    fn touch(&mut self, place: Place, step: u16, time: i64) -> Touch {
        let name = self.population.world.touchpoint(place).name;
        let channel = place.channel;
        self.remember(name);

        let traits = &self.traits;
        let is_at_counter = matches!(channel, Channel::Store | Channel::Kiosk);
        let is_on_screen = matches!(channel, Channel::Web | Channel::MobileApp | Channel::Chat);
        let is_known = self.is_logged_in || channel == Channel::MobileApp && self.is_app_logged_in;
        let shows_loyalty = traits.is_member && (is_at_counter || name.starts_with("loyalty_"));
        let takes_receipt = is_at_counter && !shows_loyalty;
        let shows_email = channel == Channel::Email || traits.gives_email && (takes_receipt || gives_email(name));
        let shows_phone = matches!(channel, Channel::Sms | Channel::CallCenter)
            || traits.gives_phone && (takes_receipt || name == "payment_info");
        let device = match channel {
            channel if channel.is_app() => Some(self.app),
            channel if channel.is_advertising() => Some(self.cookie),
            Channel::Web | Channel::Chat => Some(self.cookie),
            _ => None,
        };
        let names_campaign = channel.is_advertising() || channel.is_message() || name == "landing_page";
        let dice = &mut self.dice;
        Touch {
            received: time + delay(self.population.late_share, dice),
            occurred: time,
            number: u64::from(self.visit.customer) << 32 | u64::from(self.visit.ordinal) << 16 | u64::from(step),
            detail: dice.bits(),
            place,
            delivery: Delivery::Only,
            device,
            is_logged_in: is_on_screen && is_known,
            shows_email,
            shows_phone,
            shows_loyalty,
            campaign: self.campaign.filter(|_| names_campaign),
            variant: self.variant.filter(|_| names_campaign),
            cents: (name == "purchase").then(|| (dice.around(42.0).clamp(2.0, 4000.0) * 100.0) as u32),
            score: (name == "survey_response").then(|| (self.asked, score(self.asked, self.annoyance, dice))),
        }
    }

    /// What a touch changes for those that follow.
    fn remember(&mut self, touchpoint: &str) {
        self.is_logged_in |= self.traits.has_account && logs_in(touchpoint);
        match touchpoint {
            "payment_failed" | "return_start" => self.annoyance += 0.2,
            "complaint" => self.annoyance += 0.35,
            "call" | "chat_session" => self.asked = ScoreKind::Ces,
            "purchase" | "order_confirmation" => self.asked = ScoreKind::Nps,
            "delivery_notice" | "pickup" => self.asked = ScoreKind::Csat,
            _ => {}
        }
    }

    /// Sends a touch, now and then twice.
    fn deliver(&mut self, touch: Touch, touches: &mut Vec<Touch>) {
        if !self.dice.chance(self.population.duplicate_share) {
            touches.push(touch);
            return;
        }
        let later = ((self.dice.around(20.0) * SECOND as f64) as i64).clamp(SECOND, DAY);
        touches.push(Touch { delivery: Delivery::First, ..touch });
        touches.push(Touch { delivery: Delivery::Again, received: touch.received + later, ..touch });
    }

    /// Where the customer goes on to, if anywhere.
    fn next(&mut self, position: usize) -> Option<usize> {
        let world = &self.population.world;
        let next = world.leave(position, self.dice.bits());
        let is_converting = world.touchpoint(world.place(position)).stage == "conversion";
        if next.is_none() && is_converting && self.variant == Some(Variant::B) && self.dice.chance(0.25) {
            // What is tested works: some who would have left think again.
            return world.leave(position, self.dice.bits());
        }
        next
    }
}

/// The campaign that brought a customer, if one did.
fn campaign(entry: Channel, dice: &mut Dice) -> Option<u8> {
    let (first, count) = match entry {
        channel if channel.is_message() => (0, MESSAGE_CAMPAIGNS),
        channel if channel.is_advertising() => (MESSAGE_CAMPAIGNS, CAMPAIGNS.len() - MESSAGE_CAMPAIGNS),
        _ => return None,
    };
    let chance = dice.unit();
    dice.chance(0.75).then(|| (first + (chance * chance * count as f64) as usize) as u8)
}

/// How long an event is on its way to whoever receives it.
fn delay(late_share: f64, dice: &mut Dice) -> i64 {
    if dice.chance(late_share) {
        let share = dice.unit();
        return HOUR + (share * share * share * (7 * DAY - HOUR) as f64) as i64;
    }
    ((dice.around(2.0) * SECOND as f64) as i64).clamp(50_000, 20 * MINUTE)
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
fn score(kind: ScoreKind, annoyance: f64, dice: &mut Dice) -> u8 {
    let mood = (dice.unit().max(dice.unit()) - annoyance).clamp(0.0, 0.999);
    let score = match kind {
        ScoreKind::Csat => 1.0 + mood * 5.0,
        ScoreKind::Ces => 1.0 + mood * 7.0,
        ScoreKind::Nps => mood * 11.0,
    };
    score as u8
}
