use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::*;
use datafusion::arrow::datatypes::*;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};

fn batches(events: usize, customers: u64) -> Vec<Vec<RecordBatch>> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("customer_id", DataType::Utf8View, false),
        Field::new("occurred_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("event_id", DataType::Utf8View, false),
        Field::new("channel", DataType::Utf8View, true),
        Field::new("touchpoint", DataType::Utf8View, true),
        Field::new("stage", DataType::Utf8View, true),
        Field::new("value", DataType::Decimal128(18, 4), true),
        Field::new("is_goal", DataType::Boolean, true),
    ]));
    let channels = ["web", "mobile_app", "store", "call_center", "email", "social", "chat", "partner_portal"];
    let touchpoints: Vec<String> = (0..40).map(|i| format!("touchpoint_number_{i}")).collect();
    let stages = ["awareness", "discovery", "evaluation", "conversion", "experience", "support", "repurchase"];
    let mut state = 1u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut parts = vec![Vec::new(), Vec::new()];
    let mut made = 0;
    while made < events {
        let n = 8192.min(events - made);
        let mut c = StringViewBuilder::new();
        let mut t = Vec::new();
        let mut e = StringViewBuilder::new();
        let (mut ch, mut tp, mut st) = (StringViewBuilder::new(), StringViewBuilder::new(), StringViewBuilder::new());
        let mut v = Vec::new();
        let mut g = Vec::new();
        for i in 0..n {
            let r = random();
            c.append_value(format!("{:032x}", (r % customers).wrapping_mul(0x9E3779B97F4A7C15)));
            t.push((made + i) as i64 * 1000_000 / 10 + (r >> 40) as i64 % 1000);
            e.append_value(format!("{:016x}-{:016x}-{:02x}", r, r.wrapping_mul(77), r % 256));
            let s = random();
            ch.append_value(channels[(s % 8) as usize]);
            tp.append_value(&touchpoints[(s >> 8) as usize % 40]);
            st.append_value(stages[(s >> 20) as usize % 7]);
            v.push((s >> 30 & 7 == 0).then_some((s >> 33) as i128 % 1000000));
            g.push(s >> 40 & 31 == 0);
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(c.finish()),
            Arc::new(TimestampMicrosecondArray::from(t).with_timezone("UTC")),
            Arc::new(e.finish()),
            Arc::new(ch.finish()),
            Arc::new(tp.finish()),
            Arc::new(st.finish()),
            Arc::new(Decimal128Array::from(v).with_precision_and_scale(18, 4).unwrap()),
            Arc::new(BooleanArray::from(g)),
        ];
        parts[made / 8192 % 2].push(RecordBatch::try_new(Arc::clone(&schema), columns).unwrap());
        made += n;
    }
    parts
}

fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
#[ignore]
fn speed() {
    let events: usize = std::env::var("EVENTS").map_or(10_000_000, |v| v.parse().unwrap());
    let customers: u64 = std::env::var("CUSTOMERS").map_or(500_000, |v| v.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let parts = batches(events, customers);
        eprintln!("made, peak {} MB", memory());
        for setting in ["once", "", "skip"] {
            let mut config = SessionConfig::new().with_target_partitions(2);
            if setting == "skip" {
                config = config
                    .set_u64("datafusion.execution.skip_partial_aggregation_probe_rows_threshold", 0)
                    .set_str("datafusion.execution.skip_partial_aggregation_probe_ratio_threshold", "0");
            }
            let state = datafusion::execution::SessionStateBuilder::new().with_config(config).with_default_features();
            let state = if setting == "once" { state.with_physical_optimizer_rules(super::super::single_phase_first()) } else { state };
            let ctx = SessionContext::new_with_state(state.build());
            super::super::register_all(&ctx);
            let table = MemTable::try_new(parts[0][0].schema(), parts.clone()).unwrap();
            ctx.register_table("events", Arc::new(table)).unwrap();
            let timelines = "select customer_id, timeline(occurred_at, event_id, named_struct('channels', channel, \
                'touchpoints', touchpoint, 'stages', stage, 'values', value, 'goals', is_goal)) as t from events group by customer_id";
            let sessions = format!(
                "select customer_id, unnest(split_at(t, gap_starts(t['times'], interval '30 minutes'))) as s from ({timelines})"
            );
            let rows = format!(
                "select content_id('session', s['event_ids'][1]) as session_id, customer_id, s['channels'][1] as a, s['touchpoints'][1] as b, \
                 s['channels'][-1] as c, s['touchpoints'][-1] as d, array_length(s['times']) as n, \
                 list_sum(s['values']) as v, list_any(s['goals']) as is_converted, s['times'][1] as e, s['times'][-1] as f from ({sessions})"
            );
            for (name, sql) in [
                ("count", "select customer_id, count(*) as n, max(occurred_at) as t from events group by customer_id".to_owned()),
                ("timeline", timelines.to_owned()),
                ("sessions", sessions.clone()),
                ("session rows", rows.clone()),
            ] {
                let start = Instant::now();
                let frame = ctx.sql(&sql).await.unwrap();
                let mut stream = frame.execute_stream().await.unwrap();
                let mut n = 0;
                while let Some(batch) = futures::StreamExt::next(&mut stream).await {
                    n += batch.unwrap().num_rows();
                }
                eprintln!("{setting} {name}: {n} rows in {:.2} s, peak {} MB", start.elapsed().as_secs_f64(), memory());
            }
        }
    });
}
