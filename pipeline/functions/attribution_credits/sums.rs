//! What each channel of a group is credited with by each model, in whole numbers.
//!
//! A weight is kept as a whole number of 2⁻⁶², a value's part as one of 2⁻⁵² of its smallest digit: so sums do not depend
//! on the order in which they are made. Both are finer than what a `Float64` of their size could tell apart.

use std::hash::BuildHasher;

use hashbrown::HashTable;

/// A weight of 1.
const WHOLE: i64 = 1 << 62;
/// Bits by which a weight is finer than a part of a value.
const FINER: u32 = 10;
/// What a smallest digit of a value counts.
const DIGIT: f64 = (1u64 << 52) as f64;

/// Credits of a channel by one model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub conversions: i128,
    pub value: i128,
}

/// A sum that does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overflow;

impl Sum {
    /// Adds a part of a conversion: its weight, from 0 to 1, and the value of the whole.
    #[inline]
    pub(super) fn add(&mut self, weight: f64, value: i128) -> Result<(), Overflow> {
        let weight = (weight * WHOLE as f64) as i64;
        let part = match value {
            0 => 0,
            _ => i128::from(weight >> FINER).checked_mul(value).ok_or(Overflow)?,
        };
        self.merge(Sum { conversions: i128::from(weight), value: part })
    }

    /// Adds another sum.
    pub(super) fn merge(&mut self, other: Sum) -> Result<(), Overflow> {
        self.conversions = self.conversions.checked_add(other.conversions).ok_or(Overflow)?;
        self.value = self.value.checked_add(other.value).ok_or(Overflow)?;
        Ok(())
    }

    /// The conversions.
    pub(super) fn conversions(self) -> f64 {
        self.conversions as f64 / WHOLE as f64
    }

    /// The value, in units of its smallest digit.
    pub(super) fn value(self) -> f64 {
        self.value as f64 / DIGIT
    }
}

/// Sums of the channels of groups; channels are numbers.
#[derive(Debug)]
pub(super) struct Sums {
    models: usize,
    index: HashTable<(u32, u32, u32)>,
    channels: Vec<(u32, u32)>,
    /// A sum per model of each channel.
    sums: Vec<Sum>,
}

fn hash(group: u32, channel: u32) -> u64 {
    foldhash::fast::FixedState::default().hash_one(u64::from(group) << 32 | u64::from(channel))
}

impl Sums {
    /// Without channels.
    pub(super) fn of(models: usize) -> Self {
        Self { models, index: HashTable::new(), channels: Vec::new(), sums: Vec::new() }
    }

    /// The number of channels of all groups.
    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }

    /// The place of a channel of a group, a new one if it is new.
    #[inline]
    pub(super) fn place(&mut self, group: u32, channel: u32) -> u32 {
        let known = |entry: &(u32, u32, u32)| (entry.0, entry.1) == (group, channel);
        if let Some((.., place)) = self.index.find(hash(group, channel), known) {
            return *place;
        }
        let place = self.channels.len() as u32;
        self.index.insert_unique(hash(group, channel), (group, channel, place), |entry| hash(entry.0, entry.1));
        self.channels.push((group, channel));
        self.sums.resize(self.sums.len() + self.models, Sum::default());
        place
    }

    /// Group and channel at a place.
    pub(super) fn channel(&self, place: usize) -> (u32, u32) {
        self.channels[place]
    }

    /// The sums of a channel, one per model.
    pub(super) fn at(&self, place: usize) -> &[Sum] {
        &self.sums[place * self.models..][..self.models]
    }

    /// The sum of a channel by a model.
    #[inline]
    pub(super) fn sum(&mut self, place: u32, model: usize) -> &mut Sum {
        &mut self.sums[place as usize * self.models + model]
    }

    /// The places of each of the first `groups` groups, and where each group ends.
    pub(super) fn by_group(&self, groups: usize) -> (Vec<u32>, Vec<usize>) {
        let group = |place: &u32| self.channels[*place as usize].0 as usize;
        let mut places: Vec<u32> = (0..self.len() as u32).filter(|place| group(place) < groups).collect();
        if groups > 1 {
            places.sort_by_key(group);
        }
        let ends = (0..groups).map(|last| places.partition_point(|place| group(place) <= last)).collect();
        (places, ends)
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.index.allocation_size()
            + self.channels.capacity() * size_of::<(u32, u32)>()
            + self.sums.capacity() * size_of::<Sum>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_conversion_add_up_to_it() {
        for parts in 1..50 {
            let mut sum = Sum::default();
            for _ in 0..parts {
                sum.add(1.0 / f64::from(parts), 10_000).unwrap();
            }
            assert!((sum.conversions() - 1.0).abs() < 1e-15, "{parts}: {}", sum.conversions());
            assert!((sum.value() - 10_000.0).abs() < 1e-9, "{parts}: {}", sum.value());
        }
    }

    #[test]
    fn whole_conversions_are_exact() {
        let mut sum = Sum::default();
        (0..1000).for_each(|value| sum.add(1.0, value - 300).unwrap());
        assert_eq!((sum.conversions(), sum.value()), (1000.0, 199_500.0));
    }

    #[test]
    fn sums_that_do_not_fit_are_told() {
        let most = 10i128.pow(38) - 1;
        assert_eq!(Sum::default().add(1.0, most), Err(Overflow));
        assert_eq!(Sum { conversions: 0, value: i128::MAX }.add(1.0, 1), Err(Overflow));
        assert_eq!(Sum { conversions: 0, value: i128::MAX }.add(1.0, -1), Ok(()));
    }

    #[test]
    fn each_channel_of_each_group_has_its_place() {
        let mut sums = Sums::of(2);
        let places = [(0, 5), (1, 5), (0, 6), (0, 5), (2, 1)].map(|(group, channel)| sums.place(group, channel));
        assert_eq!(places, [0, 1, 2, 0, 3]);
        sums.sum(2, 1).add(1.0, 3).unwrap();
        assert_eq!(sums.at(2).iter().map(|sum| sum.conversions()).collect::<Vec<_>>(), [0.0, 1.0]);
        assert_eq!(sums.by_group(2), (vec![0, 2, 1], vec![2, 3]));
        assert_eq!(sums.channel(3), (2, 1));
    }
}
