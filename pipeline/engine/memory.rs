//! Queries that the memory does not suffice for are run again with more of it, then with less need of it.

use std::sync::Arc;

use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::RwLock;

use crate::error::{Kind, Result};

/// What is said where nothing helps.
const REMEDY: &str = "raise `[engine] memory`, which does not suffice";

/// Rows of a small batch: of each file that is merged, and of each group of a join, at least one is in memory.
const SMALL_BATCH: usize = 1024;

/// Open to any number of queries, or to one that needs all of the memory.
#[derive(Debug, Default)]
struct Gate(RwLock<()>);

/// Settings whose sessions, and those made of them, pass one gate.
pub(super) fn gated(config: SessionConfig) -> SessionConfig {
    config.with_extension(Arc::new(Gate::default()))
}

/// Does `work`, which plans and runs a query in the session that it is given. Where memory runs out, it is done again alone,
/// once all other work is done that came this way; then in small batches and with joins that merge sorted rows, which spill, in
/// place of hash tables, which do not; then on one thread, whose operators share the memory with no others, though a join holds
/// one side again. The rows are the same in any of these, their order is not unless the query tells it. `work` must not come
/// this way itself.
///
/// Errors: those of `work`; that memory does not suffice, of its last attempt.
pub async fn within_memory<T, Work>(ctx: &SessionContext, work: impl Fn(SessionContext) -> Work) -> Result<T>
where
    Work: Future<Output = Result<T>>,
{
    let config = ctx.copied_config();
    let Some(gate) = config.get_extension::<Gate>() else { return work(ctx.clone()).await };
    {
        let _among_others = gate.0.read().await;
        match work(ctx.clone()).await {
            Err(error) if error.kind() == Kind::Exhausted => tracing::info!(%error, "memory ran out"),
            done => return done,
        }
    }
    let _alone = gate.0.write().await;
    let mut ctx = ctx.clone();
    loop {
        match (work(ctx.clone()).await, more_sparing(&ctx)) {
            (Err(error), Some(sparing)) if error.kind() == Kind::Exhausted => {
                tracing::info!(%error, "memory ran out");
                ctx = sparing;
            }
            (Err(error), None) if error.kind() == Kind::Exhausted => return Err(error.context(REMEDY)),
            (done, _) => return done,
        }
    }
}

/// The rows of a query, of which the first are there: until then it is run [`within_memory`], and what holds rows back to sort,
/// group or join them does so before it gives any.
pub async fn rows_within_memory(query: DataFrame) -> Result<SendableRecordBatchStream> {
    let (state, plan) = query.into_parts();
    let begin = |ctx: SessionContext| {
        let query = DataFrame::new(ctx.state(), plan.clone());
        async move {
            let mut rows = query.execute_stream().await?;
            let (schema, first) = (rows.schema(), rows.try_next().await?);
            let rows = futures::stream::iter(first.map(Ok)).chain(rows);
            Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)) as SendableRecordBatchStream)
        }
    };
    within_memory(&SessionContext::new_with_state(state), begin).await
}

/// A session that needs less memory than another, and more time.
fn more_sparing(ctx: &SessionContext) -> Option<SessionContext> {
    let mut config = ctx.copied_config();
    let threads = config.target_partitions();
    if config.options().optimizer.prefer_hash_join {
        // The engine sorts no join of one thread.
        config = config.with_batch_size(SMALL_BATCH).with_target_partitions(threads.max(2));
        config.options_mut().optimizer.prefer_hash_join = false;
    } else if threads > 1 {
        config = config.with_target_partitions(1);
    } else {
        return None;
    }
    let mut state = ctx.state();
    *state.config_mut() = config;
    Some(SessionContext::new_with_state(state))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Barrier;

    use super::*;
    use crate::error::Error;

    fn session() -> SessionContext {
        SessionContext::new_with_config(gated(SessionConfig::new().with_target_partitions(2)))
    }

    fn exhausted<T>() -> Result<T> {
        Err(Error::new(Kind::Exhausted, "no room"))
    }

    #[tokio::test]
    async fn what_does_not_fit_beside_others_is_done_again_alone() {
        let (ctx, at_work, met) = (session(), AtomicUsize::new(0), Barrier::new(3));
        let attempts = AtomicUsize::new(0);
        let work = |_| async {
            let others = at_work.fetch_add(1, Ordering::SeqCst);
            if attempts.fetch_add(1, Ordering::SeqCst) < 3 {
                met.wait().await;
                at_work.fetch_sub(1, Ordering::SeqCst);
                return exhausted();
            }
            tokio::task::yield_now().await;
            let are_alone = others == 0 && at_work.fetch_sub(1, Ordering::SeqCst) == 1;
            Ok(are_alone)
        };
        let done = tokio::join!(within_memory(&ctx, work), within_memory(&ctx, work), within_memory(&ctx, work));
        assert!(done.0.unwrap() && done.1.unwrap() && done.2.unwrap());
        assert_eq!(attempts.into_inner(), 6);
    }

    #[tokio::test]
    async fn what_does_not_fit_alone_is_done_with_less_and_less_memory_before_it_is_given_up() {
        let ways = Mutex::new(Vec::new());
        let way = |ctx: &SessionContext| {
            let config = ctx.copied_config();
            (config.options().optimizer.prefer_hash_join, config.target_partitions())
        };
        let work = |ctx| {
            ways.lock().unwrap().push(way(&ctx));
            async { exhausted::<()>() }
        };
        let error = within_memory(&session(), work).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Exhausted);
        assert_eq!(error.to_string(), "raise `[engine] memory`, which does not suffice: no room");
        assert_eq!(*ways.lock().unwrap(), [(true, 2), (true, 2), (false, 2), (false, 1)]);

        ways.lock().unwrap().clear();
        let one_thread = SessionContext::new_with_config(gated(SessionConfig::new().with_target_partitions(1)));
        within_memory(&one_thread, work).await.unwrap_err();
        assert_eq!(*ways.lock().unwrap(), [(true, 1), (true, 1), (false, 2), (false, 1)]);

        let work = |ctx| {
            let is_sparing = !way(&ctx).0;
            async move { if is_sparing { Ok(()) } else { exhausted() } }
        };
        within_memory(&session(), work).await.unwrap();
    }

    #[tokio::test]
    async fn other_errors_are_told_at_once() {
        let attempts = AtomicUsize::new(0);
        let work = |_| async {
            attempts.fetch_add(1, Ordering::SeqCst);
            Err::<(), _>(Error::invalid("wrong"))
        };
        assert_eq!(within_memory(&session(), work).await.unwrap_err().to_string(), "wrong");
        assert_eq!(attempts.into_inner(), 1);
    }
}
