//! Synthetic customers: who they are and when they come.
//!
//! Everything about a customer is a pure function of the seed and the customer's number, so that nothing has to be kept
//! between visits.

use super::Options;
use super::chance::{Purpose, mix, odds, unit};
use super::clock::{Clock, DAY, MINUTE};
use super::visits::Variant;
use super::world::{CAMPAIGNS, World};

/// A customer never has more visits.
const MOST_VISITS: f64 = 400.0;
/// Customers of old are seen again within so long.
const SEEN_AGAIN: i64 = 30 * DAY;
/// Two visits of a customer lie at least so far apart.
const REST: i64 = 31 * MINUTE;

/// All that customers have in common.
pub(super) struct Population {
    pub(super) seed: u64,
    pub(super) duplicate_share: f64,
    pub(super) late_share: f64,
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

/// What is lasting about a customer, told from the bits of one hash.
pub(super) struct Traits {
    pub(super) has_account: bool,
    pub(super) gives_email: bool,
    pub(super) gives_phone: bool,
    /// Of the loyalty programme.
    pub(super) is_member: bool,
    /// The app mostly knows who it is.
    pub(super) stays_logged_in: bool,
    clears_cookies: bool,
    lapses: bool,
    pub(super) devices: u64,
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

    pub(super) fn traits(&self, customer: u32) -> Traits {
        let bits = self.bits(Purpose::Traits, customer);
        let is = |position: u32, percent: u64| (bits >> (position * 7) & 127) * 100 < percent * 128;
        Traits {
            has_account: is(0, 58),
            gives_email: is(1, 70),
            gives_phone: is(2, 48),
            is_member: is(3, 36),
            stays_logged_in: is(4, 60),
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
        let mut gap = (usual_days * odds(unit(bits)) * DAY as f64).min(self.clock.length() as f64) as i64;
        if f64::from(next) == (visits / 2.0).floor() && self.traits(customer).lapses {
            gap += (bits % 30 + 31) as i64 * DAY;
        }
        let rested = self.clock.active(ended + REST);
        let start = self.clock.calendar(rested + gap)?;
        Some(Visit { start, customer, ordinal: next })
    }

    /// The cookie and the app installation that a visit is seen by, the `device`th of the customer.
    pub(super) fn installations(&self, visit: Visit, device: u64) -> (u64, u64) {
        let traits = self.traits(visit.customer);
        let is_shared = traits.shares_device && device == 0;
        let owner = if is_shared { visit.customer - 1 } else { visit.customer };
        let cleared = if traits.clears_cookies && !is_shared { u64::from(visit.ordinal) / 4 } else { 0 };
        let installation = mix(self.bits(Purpose::Device, owner) ^ device << 32);
        (mix(installation ^ cleared), mix(!installation))
    }

    /// The side of a campaign's test that a customer is on, if the campaign has one.
    pub(super) fn variant(&self, customer: u32, campaign: u8) -> Option<Variant> {
        let (_, has_test) = CAMPAIGNS[usize::from(campaign)];
        let side = mix(self.bits(Purpose::Variant, customer) ^ u64::from(campaign));
        has_test.then_some(if side & 1 == 0 { Variant::A } else { Variant::B })
    }
}
