//! `identifiers`: ten million identifiers, or as many as asked for, become customers under the default rules.
//!
//! A customer has two cookies, a login and an e-mail, seen on four events: each cookie with the login, the login
//! with the e-mail, and one cookie by itself. Events come scattered over all customers, the worst order for memory.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::arrow::ArrowWriter;
use wayline::config;
use wayline::delta;
use wayline::error::{Error, Result};
use wayline::identifiers::Blocked;
use wayline::identity::{Links, Rules, resolve, tables};

use super::Phases;

const IDENTIFIERS_PER_CUSTOMER: u64 = 4;
const EVENTS_PER_CUSTOMER: u64 = 4;
/// An odd multiplier scatters numbers and keeps them distinct, modulo a power of two (Knuth, TAOCP 3.2.1.2).
const SCATTER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Resolves `count` identifiers on `threads` threads, returns the rows of `identity_map` written.
pub fn run(count: &Path, out: &Path, threads: usize, phases: &mut Phases) -> Result<usize> {
    let count: u64 =
        count.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| Error::invalid("expected a number"))?;
    let customers = count / IDENTIFIERS_PER_CUSTOMER;
    let links = collect(customers, threads as u64)?;
    phases.end("collect");
    let resolution = Arc::new(resolve(links, &Rules::from(&config::Identity::default())));
    phases.end("resolve");
    if resolution.customer_count() as u64 != customers {
        return Err(Error::internal(format!("{} customers, expected {customers}", resolution.customer_count())));
    }
    let properties = Some(delta::writer_properties());
    let mut writer = ArrowWriter::try_new(File::create(out)?, tables::identity_map_schema(), properties)?;
    for batch in tables::identity_map(resolution.clone()) {
        writer.write(&batch)?;
    }
    writer.close()?;
    phases.end("write");
    Ok(resolution.identifier_count())
}

/// Each thread takes its share of the events and collects for itself; what they collected is merged.
fn collect(customers: u64, threads: u64) -> Result<Links> {
    let events = (customers * EVENTS_PER_CUSTOMER).next_power_of_two();
    let work = |thread: u64| {
        let (mut links, blocked) = (Links::new(), Blocked::default());
        for arrival in (thread..events).step_by(threads as usize) {
            let event = arrival.wrapping_mul(SCATTER) & (events - 1);
            let (customer, kind) = (event / EVENTS_PER_CUSTOMER, event % EVENTS_PER_CUSTOMER);
            if customer < customers {
                add(&mut links, customer, kind, &blocked)?;
            }
        }
        Ok(links)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        let mut collected = Links::new();
        for worker in workers {
            let links: Result<Links> = worker.join().map_err(|_| Error::internal("a collector panicked"))?;
            collected.merge(links?)?;
        }
        Ok(collected)
    })
}

/// Adds one event of a customer.
fn add(links: &mut Links, customer: u64, kind: u64, blocked: &Blocked) -> Result<()> {
    let name = customer.wrapping_mul(SCATTER);
    let (login, email) = (format!("user-{name:016x}"), format!("{name:016x}@example.com"));
    let cookies = [format!("{name:016x}a1"), format!("{name:016x}b2")];
    let time = (customer * EVENTS_PER_CUSTOMER + kind).cast_signed();
    match kind {
        0 => links.add_event([("anonymous_id", cookies[0].as_str())], time, blocked),
        1 => links.add_event([("anonymous_id", cookies[0].as_str()), ("user_id", login.as_str())], time, blocked),
        2 => links.add_event([("anonymous_id", cookies[1].as_str()), ("user_id", login.as_str())], time, blocked),
        _ => links.add_event([("user_id", login.as_str()), ("email", email.as_str())], time, blocked),
    }
}
