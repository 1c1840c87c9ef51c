//! Every command in its smallest form: what it prints must be what was done.
#![expect(clippy::unwrap_used, reason = "a test may")]

use std::process::Command;

use serde_json::Value;

/// Runs a command and gives the rows that it prints.
fn rows(arguments: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_semj-bench"))
        .args(arguments)
        .args(["--json", "--dir", env!("CARGO_TARGET_TMPDIR")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(row: &Value, pointer: &str) -> u64 {
    let value = row.pointer(pointer).and_then(Value::as_u64);
    assert!(value.is_some(), "there is no {pointer} in {row}");
    value.unwrap()
}

#[test]
fn every_emission_behind_the_warm_up_is_in_the_histograms_and_none_allocates() {
    let short = ["--rate", "5000", "--seconds", "0.4", "--warm-up", "0.1", "--wait", "yield"];
    let [row] = &rows(&[&["emission", "--producers", "2"], &short[..]].concat())[..] else {
        panic!("one row was expected")
    };
    assert_eq!(number(row, "/call/count") + number(row, "/left_out"), 2 * 2_000, "{row}");
    assert_eq!(number(row, "/response/count"), number(row, "/call/count"));
    assert_eq!(number(row, "/allocations"), 0);
    assert!(number(row, "/resident") > number(row, "/resident_before"));
    assert!(number(row, "/response/p50") >= number(row, "/timer/p50"));
}

#[test]
fn every_combination_has_its_row_with_the_median_of_its_runs() {
    let rows = rows(&[
        "emission",
        "--rate",
        "1000,max",
        "--payload",
        "0,64",
        "--seconds",
        "0.1",
        "--warm-up",
        "0.05",
        "--runs",
        "3",
    ]);
    let of = |row: &Value| (row["rate"].as_str().unwrap().to_owned(), number(row, "/payload"));
    let combinations: Vec<_> = rows.iter().map(of).collect();
    let expected = [("1000", 0), ("max", 0), ("1000", 64), ("max", 64)];
    assert_eq!(combinations, expected.map(|(rate, payload)| (rate.to_owned(), payload)));
    assert!(rows[1]["response"].is_null(), "flat out, no call should have begun at any time: {}", rows[1]);
}

#[test]
fn syncs_and_another_process_that_writes_go_on_beside_the_emissions() {
    let beside = ["--sync-every", "5", "--disturb", "20MB/s", "--segment-size", "262144"];
    let short = ["--rate", "20000", "--seconds", "0.5", "--warm-up", "0.1", "--wait", "yield"];
    let rows = rows(&[&["emission"], &beside[..], &short[..]].concat());
    assert!(number(&rows[0], "/syncs") > 10, "{}", rows[0]);
    assert!(number(&rows[0], "/segments") > 10, "{}", rows[0]);
    assert!(rows[0]["disturbed_by"].as_f64().unwrap() > 1e6, "{}", rows[0]);
}

#[test]
fn durable_records_are_counted_by_all_threads() {
    let rows = rows(&["throughput", "--only", "durable-1,durable-8", "--seconds", "0.3"]);
    assert_eq!([number(&rows[0], "/threads"), number(&rows[1], "/threads")], [1, 8]);
    for row in &rows {
        let expected = number(row, "/wait/count") as f64 / 0.3;
        assert!(expected > 0.0 && (row["records_per_s"].as_f64().unwrap() - expected).abs() < 1.0, "{row}");
    }
}

#[test]
fn steady_load_is_found_again_whole() {
    let rows = rows(&["sustained", "--seconds", "1", "--rate", "5000"]);
    assert_eq!(number(&rows[0], "/found"), number(&rows[0], "/emitted"));
    assert_eq!(number(&rows[0], "/emitted") + number(&rows[0], "/left_out"), 5_000);
    assert!(number(&rows[0], "/resident/2") > 0);
}

#[test]
fn what_a_killed_process_made_durable_is_verified_opened_and_read() {
    let rows = rows(&["reopen", "--events", "20000", "--payload", "100"]);
    assert_eq!(number(&rows[0], "/verified/events"), 20_000);
    assert_eq!(number(&rows[0], "/records"), 20_000);
    assert_eq!(number(&rows[0], "/get/count"), 10_000);
    assert!(number(&rows[0], "/first_append_ns") > 0 && number(&rows[0], "/cold_first_append_ns") > 0);
}

#[test]
fn a_journal_is_verified_to_its_last_byte() {
    let rows = rows(&["verify", "--mib", "8", "--payload", "1000"]);
    assert!(number(&rows[0], "/bytes") >= 8 << 20, "{}", rows[0]);
    assert_eq!(number(&rows[0], "/events") % 10_000, 0);
}

#[test]
fn every_codec_has_its_size_and_gives_events_back() {
    let rows = rows(&["compression", "--events", "20000", "--codec", "none,zstd:3"]);
    let [none, zstd] = &rows[..] else { panic!("two rows were expected") };
    assert_eq!([&none["codec"], &zstd["codec"]], ["none", "zstd:3"]);
    assert_eq!(number(none, "/native"), number(zstd, "/native"));
    assert_eq!(number(none, "/one_stream"), number(zstd, "/one_stream"));
    assert!(number(zstd, "/packed") < number(none, "/packed"));
    assert!(number(none, "/packed") < number(none, "/native"));
    for row in &rows {
        assert!(number(row, "/get_cold/count") >= 4_000, "{row}");
        assert_eq!(number(row, "/get_cold/count"), number(row, "/get_warm/count"));
        assert!(number(row, "/get_cold/p50") > number(row, "/get_warm/p50"), "{row}");
    }
}

#[test]
fn a_directory_in_memory_is_refused() {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else { return };
    let output = Command::new(env!("CARGO_BIN_EXE_semj-bench"))
        .args(["verify", "--mib", "1", "--payload", "1", "--dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("in memory"));
}
