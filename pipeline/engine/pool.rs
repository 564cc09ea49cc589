//! The memory of a session.

use std::fmt;

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

use crate::error::{Error, Kind};

/// Beginnings of the names of joins that hold rows and do not spill.
const JOINS: [&str; 3] = ["HashJoinInput", "NestedLoopJoin", "CrossJoin"];

/// A pool that tells joins in an error of ours that they get no more. A nested loop of this version of the engine takes the engine's
/// own, met by itself or by what it reads on the left, for a sign to read that side again with less memory. It is then read
/// twice, which what gives its rows once does not survive (<https://github.com/apache/datafusion/issues/24676>), and a left,
/// semi or anti join on several threads gives wrong rows (<https://github.com/apache/datafusion/issues/22641>). Sorts and
/// aggregates need the engine's own to spill, so where one of these meets it on the left and cannot, that stays.
#[derive(Debug)]
pub(super) struct JoinsOnce<P>(pub(super) P);

impl<P: MemoryPool> MemoryPool for JoinsOnce<P> {
    fn name(&self) -> &str {
        "joins_once"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.0.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.0.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.0.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.0.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.0.try_grow(reservation, additional).map_err(|error| match error {
            DataFusionError::ResourcesExhausted(_)
                if JOINS.iter().any(|join| reservation.consumer().name().starts_with(join)) =>
            {
                DataFusionError::External(Error::new(Kind::Exhausted, error.strip_backtrace()).into())
            }
            error => error,
        })
    }

    fn reserved(&self) -> usize {
        self.0.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.0.memory_limit()
    }
}

impl<P: fmt::Display> fmt::Display for JoinsOnce<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;

    #[test]
    fn joins_are_told_in_an_error_of_ours_and_others_in_the_engines_own() {
        let pool: Arc<dyn MemoryPool> = Arc::new(JoinsOnce(GreedyMemoryPool::new(10)));
        let told = |name: &str| MemoryConsumer::new(name).register(&pool).try_grow(11).unwrap_err();
        for join in ["HashJoinInput", "HashJoinInput[1]", "NestedLoopJoinLoad[0]", "CrossJoinExec"] {
            let error = told(join);
            assert!(!matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)), "{error}");
            assert!(error.to_string().contains("Resources exhausted"), "{error}");
            assert_eq!(Error::from(error).kind(), Kind::Exhausted);
        }
        assert!(matches!(told("SMJStream[0]").find_root(), DataFusionError::ResourcesExhausted(_)));
        assert!(matches!(told("ExternalSorterMerge[0]"), DataFusionError::ResourcesExhausted(_)));
        assert_eq!((pool.reserved(), pool.to_string()), (0, GreedyMemoryPool::new(10).to_string()));
    }
}
