//! The real binary killed at random times while batches arrive: what it then ends with is what an undisturbed one ends with.
//!
//! `WAYLINE_KILLS` tells how many kills there are.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::arrivals::{EVENTS, PROJECT, arrive, content, damages};
use crate::house::House;

const KILLS: usize = 30;
/// Files that arrive at a house, one after another, and kills after each.
const FILES: u64 = 5;
const KILLS_PER_FILE: usize = 4;

/// Kills a run after a time; tells the stage that it was in, if it had not ended.
fn kill(house: &House, after: Duration) -> Option<String> {
    let stderr = house.path().join("stderr");
    let mut command = house.command(&["run"]);
    command.stdout(Stdio::null()).stderr(std::fs::File::create(&stderr).unwrap());
    let mut child = command.spawn().unwrap();
    let begun = Instant::now();
    while begun.elapsed() < after && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    let status = child.wait().unwrap();
    if let Some(code) = status.code() {
        assert_eq!(code, 0, "{}", std::fs::read_to_string(&stderr).unwrap());
        return None;
    }
    let said = std::fs::read_to_string(&stderr).unwrap();
    Some(said.lines().last().unwrap_or("begin").to_string())
}

#[test]
fn a_house_killed_at_random_times_ends_as_an_undisturbed_one() {
    let wanted = std::env::var("WAYLINE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let undisturbed = House::new(PROJECT, &[]);
    let mut length = Duration::ZERO;
    for number in 0..FILES {
        arrive(&undisturbed, number);
        let begun = Instant::now();
        undisturbed.succeed(&["run"]);
        length = length.max(begun.elapsed());
    }
    let expected = content(&undisturbed);
    assert_eq!(expected["events"].len(), EVENTS * FILES as usize);
    assert!(damages(&undisturbed.path().join("lake")).is_empty());

    let mut stages: BTreeMap<String, usize> = BTreeMap::new();
    let mut recoveries = Vec::new();
    let (mut kills, mut seed) = (0, 1_u64);
    // What is left to do after a kill takes less time, and a run that has ended is none to kill.
    let mut reach = length;
    while kills < wanted {
        let house = House::new(PROJECT, &[]);
        for number in 0..FILES {
            arrive(&house, number);
            for _ in 0..KILLS_PER_FILE {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                match kill(&house, reach.mul_f64((seed % 1000) as f64 / 1000.0)) {
                    Some(stage) => {
                        kills += 1;
                        *stages.entry(stage).or_default() += 1;
                        reach = length.min(reach.mul_f64(1.1));
                    }
                    None => reach = reach.mul_f64(0.8),
                }
            }
            let begun = Instant::now();
            // Every other file lands with what the next brings.
            if number % 2 == 0 || number + 1 == FILES {
                house.succeed(&["run"]);
                recoveries.push(begun.elapsed().as_secs_f64());
            }
        }
        let wrong = damages(&house.path().join("lake"));
        assert!(wrong.is_empty(), "after {kills} kills: {}", wrong.join("\n"));
        let found = content(&house);
        for (name, expected) in &expected {
            assert_eq!(found.get(name), Some(expected), "{name} after {kills} kills");
        }
        assert_eq!(found.len(), expected.len());
        recoveries.sort_by(f64::total_cmp);
        println!(
            "{kills} kills {stages:?}, 0 lost, 0 duplicated, 0 versions unreadable, recovery p95 {:.2} s, undisturbed {:.2} s",
            recoveries[recoveries.len() * 95 / 100],
            length.as_secs_f64()
        );
    }
}
