//! Rows on their way to a client: until they end, time is up, or the client takes its question back.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::Column;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, cast};
use datafusion::prelude::DataFrame;
use datafusion_postgres::arrow_pg::datatypes::{arrow_schema_to_pg_fields, encode_recordbatch};
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::api::results::QueryResponse;
use datafusion_postgres::pgwire::api::{ClientInfo, ConnectionHandle};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use datafusion_postgres::pgwire::types::format::FormatOptions;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use crate::engine;
use crate::error::{Error, Kind};

/// The same rows with lists of plain texts: the protocol knows none of keys.
pub fn with_plain_lists(query: DataFrame) -> Result<DataFrame, Error> {
    let plain = |data_type: &DataType| match data_type {
        DataType::List(item) => match item.data_type() {
            DataType::Dictionary(_, value) => {
                Some(DataType::List(Arc::new(Field::new(item.name(), value.as_ref().clone(), item.is_nullable()))))
            }
            _ => None,
        },
        _ => None,
    };
    if query.schema().fields().iter().all(|field| plain(field.data_type()).is_none()) {
        return Ok(query);
    }
    let columns: Vec<Expr> = (query.schema().iter())
        .map(|(table, field)| {
            let column = Expr::Column(Column::from((table, field)));
            match plain(field.data_type()) {
                Some(data_type) => cast(column, data_type).alias_qualified(table.cloned(), field.name()),
                None => column,
            }
        })
        .collect();
    Ok(query.select(columns)?)
}

/// Begins to answer a query. Nothing may be awaited between this and the end of the handler that asks: what tells of a
/// cancelled query is renewed here.
pub async fn answer<C: ClientInfo + ?Sized>(
    client: &C,
    sql: &str,
    query: DataFrame,
    format: &Format,
    deadline: Instant,
) -> PgWireResult<QueryResponse> {
    let options = Arc::new(FormatOptions::from_client_metadata(client.metadata()));
    let fields = Arc::new(arrow_schema_to_pg_fields(query.schema().as_arrow(), format, Some(options))?);
    let rows = query.execute_stream().await.map_err(|error| failed(sql, engine::locate(sql, error.into())))?;
    let cancelled = match client.session_extensions().get::<Arc<ConnectionHandle>>() {
        Some(handle) => Some(handle.start_query().await),
        None => None,
    };
    let sql = sql.to_string();
    let batches = batches(rows, deadline, cancelled, sql);
    let encoded = fields.clone();
    let rows = batches.map_ok(move |batch| stream::iter(encode_recordbatch(encoded.clone(), batch))).try_flatten();
    Ok(QueryResponse::new(fields, rows))
}

type Cancelled = futures::channel::oneshot::Receiver<()>;

fn batches(
    rows: SendableRecordBatchStream,
    deadline: Instant,
    cancelled: Option<Cancelled>,
    sql: String,
) -> impl futures::Stream<Item = PgWireResult<arrow::array::RecordBatch>> + Send + 'static {
    let state = Some((rows, cancelled));
    stream::unfold(state, move |state| {
        let sql = sql.clone();
        async move {
            let (mut rows, mut cancelled) = state?;
            let is_cancelled = async {
                match &mut cancelled {
                    // A sender that is gone tells nothing.
                    Some(receiver) => match receiver.await {
                        Ok(()) => {}
                        Err(_) => std::future::pending().await,
                    },
                    None => std::future::pending().await,
                }
            };
            let next = tokio::select! {
                biased;
                _ = is_cancelled => Some(Err(PgWireError::QueryCanceled)),
                _ = tokio::time::sleep_until(deadline) => Some(Err(timed_out())),
                next = rows.next() => next.map(|next| next.map_err(|error| failed(&sql, engine::locate(&sql, error.into())))),
            };
            match next? {
                Ok(batch) => Some((Ok(batch), Some((rows, cancelled)))),
                Err(error) => Some((Err(error), None)),
            }
        }
    })
}

/// The error of a statement that took too long.
pub fn timed_out() -> PgWireError {
    told(
        "57014",
        "the statement took longer than it may".into(),
        Some("the server's --statement-timeout sets it".into()),
    )
}

/// The error of a statement that would write.
pub fn refused(message: &str) -> PgWireError {
    told("42501", message.into(), Some("models and marts are made by files in queries/".into()))
}

/// An error of a query in the words of the protocol, with its place in what the client sent.
pub fn failed(sent: &str, error: Error) -> PgWireError {
    let message = error.to_string();
    let starts = |words: &[&str]| words.iter().any(|word| message.starts_with(word));
    let code = if message.contains("queries only read") {
        "42501"
    } else if starts(&["no table is called"]) {
        "42P01"
    } else if starts(&["no column is called"]) || message.contains(" has no column `") {
        "42703"
    } else if starts(&["no function is called"]) {
        "42883"
    } else if starts(&["expected "]) {
        "42601"
    } else {
        match error.kind() {
            Kind::Invalid => "22000",
            Kind::Conflict | Kind::Unavailable => "53000",
            Kind::Exhausted => "53200",
            Kind::Corrupt => "XX001",
            Kind::Internal => "XX000",
        }
    };
    let mut info = ErrorInfo::new("ERROR".into(), code.into(), message);
    info.hint = error.remedy().map(str::to_string);
    // What was planned may be spelled otherwise than what was sent: a word that was sent once is shown.
    info.position = error.place().and_then(|place| {
        let words = place.words();
        let at = if place.text == sent { Some(place.span.start) } else { only(sent, words) };
        Some((sent[..at?].chars().count() + 1).to_string())
    });
    PgWireError::UserError(Box::new(info))
}

/// Where a text stands, if it does so once.
fn only(text: &str, words: &str) -> Option<usize> {
    let mut found = text.match_indices(words);
    let (at, _) = found.next()?;
    (found.next().is_none() && !words.is_empty()).then_some(at)
}

fn told(code: &str, message: String, hint: Option<String>) -> PgWireError {
    let mut info = ErrorInfo::new("ERROR".into(), code.into(), message);
    info.hint = hint;
    PgWireError::UserError(Box::new(info))
}
