//! What is fetched is a journal when all of it is there, and not before.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod support;

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use semj::{Journal, OpenMode, Options, Reader, Retention, UNRETIRED};
use semj_archive::{Error, FetchOptions, FetchReport};

use support::{Place, grow, open, retain, sha256_of, small};

/// The segments with these numbers, and all that the journal has retired if that is wanted.
fn some(first: u64, last: u64, with_retired: bool) -> FetchOptions {
    FetchOptions { segments: Some(first..=last), with_retired }
}

fn all() -> FetchOptions {
    FetchOptions::default()
}

impl Place {
    /// With a journal of so many segments of ten events each, which is open, and its archive.
    fn with(count: u64) -> (Self, Journal) {
        let place = Self::new();
        let journal = open(&place.live());
        grow(&journal, count);
        place.push();
        (place, journal)
    }

    fn back(&self) -> PathBuf {
        self.dir.path().join("back")
    }

    fn try_fetch(&self, options: &FetchOptions) -> Result<FetchReport, Error> {
        self.archive().fetch(&self.back(), options, &mut |_| ())
    }

    fn fetch(&self, options: &FetchOptions) -> FetchReport {
        self.try_fetch(options).unwrap()
    }

    /// A fetch that comes to the segment of this number and no further.
    fn fetch_upto(&self, number: u64, options: &FetchOptions) {
        let entry = self.archive().existing_manifest().unwrap().segment(number).unwrap().clone();
        let [there, away] = [self.folder().join(entry.object), self.dir.path().join("away")];
        fs::rename(&there, &away).unwrap();
        assert!(matches!(self.try_fetch(options), Err(Error::Missing { .. })));
        fs::rename(away, there).unwrap();
    }

    /// Segments that are in the directory.
    fn numbers(&self) -> Vec<u64> {
        let mut numbers: Vec<_> =
            names(&self.back()).iter().filter(|n| n.ends_with(".semj")).map(|n| number(n)).collect();
        numbers.sort_unstable();
        numbers
    }

    fn is_for_reading(&self) -> bool {
        let is_marked = self.back().join(UNRETIRED).exists();
        let opened = Journal::open(self.back(), small());
        assert_eq!(matches!(opened, Err(semj::Error::Unretired { .. })), is_marked, "{opened:?}");
        is_marked
    }

    /// That there is a journal of these segments and events, which goes on, and nothing of what was retired before.
    fn is_journal(&self, segments: RangeInclusive<u64>, ids: RangeInclusive<u64>) {
        assert!(!self.back().join(UNRETIRED).exists());
        assert!(self.numbers().into_iter().eq(segments.clone()), "{:?}", self.numbers());
        let names = names(&self.back());
        let mut of_segments = names.iter().filter(|name| name.starts_with('0'));
        assert!(of_segments.all(|name| segments.contains(&number(name))), "{names:?}");
        assert!(events(&self.back()).into_iter().eq(ids));
        let journal = Journal::open(self.back(), small()).unwrap();
        let retired = journal.retired().map_or(0, |retired| retired.segment_number);
        assert_eq!(retired, segments.start() - 1);
        grow(&journal, 1);
        journal.close().unwrap();
        assert!(semj::examine_journal(self.back(), OpenMode::Strict).unwrap().is_whole());
    }
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn number(name: &str) -> u64 {
    name[..10].parse().unwrap()
}

/// The ids of a journal's events.
fn events(dir: &Path) -> Vec<u64> {
    let reader = Reader::open(dir, OpenMode::Strict).unwrap();
    reader.iter(..).map(|record| record.unwrap().event_id()).collect()
}

#[test]
fn what_a_fetch_has_left_that_was_cut_short_is_for_reading_until_all_is_there() {
    for cut in 1..=4 {
        let (place, journal) = Place::with(4);
        journal.close().unwrap();
        place.push();
        place.fetch_upto(cut, &all());
        assert!(place.numbers().into_iter().eq(1..cut), "{cut}: {:?}", place.numbers());
        assert!(place.is_for_reading(), "{cut}");
        if cut > 1 {
            assert!(events(&place.back()).into_iter().eq(1..=(cut - 1) * 10), "{cut}");
        }
        // Cut once more.
        place.fetch_upto(4, &all());
        let fetched = place.fetch(&all());
        assert_eq!((fetched.fetched, fetched.found, fetched.events), (2, 3, 40), "{cut}");
        assert_eq!(place.numbers(), [1, 2, 3, 4, 5]);
        assert!(!place.is_for_reading(), "{cut}");
    }
}

#[test]
fn what_is_fetched_is_for_reading_if_it_is_not_proven() {
    let (place, journal) = Place::with(3);
    journal.close().unwrap();
    // The manifest says of other bytes that they are the second segment.
    place.replace_manifest(|manifest| {
        let entry = &mut manifest.segments[1];
        let mut bytes = fs::read(objects(&place.live())[1].clone()).unwrap();
        bytes.truncate(entry.end as usize);
        let at = bytes.windows(6).position(|window| window == b"{\"n\":1").unwrap();
        bytes[at + 5] ^= 1;
        let object = format!("{}x.semj", entry.object.trim_end_matches(".semj"));
        fs::write(place.folder().join(&object), &bytes).unwrap();
        entry.header.clear();
        (entry.form, entry.size, entry.object) = (semj_archive::Form::Native, bytes.len() as u64, object);
        entry.sha256 = sha256_of(&bytes);
    });
    let refused = place.try_fetch(&all());
    assert!(matches!(refused, Err(Error::Journal(semj::Error::Damaged { .. }))), "{refused:?}");
    assert!(place.is_for_reading());
}

fn objects(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = names(dir).into_iter().filter(|name| name.ends_with(".semj")).collect();
    names.sort_unstable();
    names.into_iter().map(|name| dir.join(name)).collect()
}

#[test]
fn a_fetch_that_ended_before_it_took_its_mark_away_comes_to_its_end() {
    let (place, _journal) = Place::with(3);
    place.fetch(&all());
    fs::write(place.back().join(UNRETIRED), []).unwrap();
    let fetched = place.fetch(&all());
    assert_eq!((fetched.fetched, fetched.found), (0, 3));
    place.is_journal(1..=3, 1..=30);
}

#[test]
fn a_part_becomes_the_journal_when_the_rest_is_fetched() {
    let (place, journal) = Place::with(4);
    place.fetch(&some(1, 2, false));
    assert!(place.is_for_reading());
    // Another part has another place.
    let refused = place.try_fetch(&some(3, 4, false));
    assert!(matches!(refused, Err(Error::Journal(semj::Error::NotEmpty { .. }))), "{refused:?}");
    assert_eq!(place.numbers(), [1, 2]);
    let fetched = place.fetch(&all());
    assert_eq!((fetched.fetched, fetched.found, fetched.events), (2, 2, 40));
    // A whole one is not made a part, nor a journal that is in use taken for a fetched one.
    let refused = place.try_fetch(&some(1, 2, false));
    assert!(matches!(refused, Err(Error::Journal(semj::Error::NotEmpty { .. }))), "{refused:?}");
    place.is_journal(1..=4, 1..=40);
    let refused = place.try_fetch(&all());
    assert!(matches!(refused, Err(Error::Journal(semj::Error::NotEmpty { .. }))), "{refused:?}");

    // With what was retired too.
    retain(&journal, 2);
    grow(&journal, 1);
    journal.close().unwrap();
    place.push();
    fs::remove_dir_all(place.back()).unwrap();
    place.fetch(&FetchOptions { with_retired: true, ..all() });
    assert!(place.is_for_reading());
    assert_eq!(place.numbers(), [1, 2, 3, 4, 5, 6, 7]);
    let fetched = place.fetch(&all());
    assert_eq!((fetched.fetched, fetched.events), (0, 20));
    assert_eq!(place.numbers(), [4, 5, 6, 7]);
    assert!(!place.is_for_reading());
}

#[test]
fn what_the_journal_has_retired_since_a_fetch_was_cut_short_does_not_stay() {
    for is_said in [false, true] {
        let (place, journal) = Place::with(5);
        place.fetch_upto(4, &all());
        assert_eq!(place.numbers(), [1, 2, 3]);
        // Of the third one the sidecar is there, and of the first a part under another name.
        let files = objects(&place.back());
        fs::write(files[0].with_extension("semj.tmp"), b"SEMJ").unwrap();
        fs::remove_file(&files[2]).unwrap();
        retain(&journal, 3);
        assert_eq!(journal.retired().unwrap().segment_number, 3);
        if is_said {
            grow(&journal, 1);
        }
        place.push();
        assert_eq!(place.archive().existing_manifest().unwrap().retired_upto, 3);
        place.fetch(&all());
        match is_said {
            // What says so is in the segment that is written: the journal that is archived has retired nothing.
            false => place.is_journal(1..=6, 1..=50),
            true => place.is_journal(4..=7, 31..=60),
        }
    }
}

#[test]
fn a_part_that_was_begun_is_completed_with_what_was_retired_since() {
    let (place, journal) = Place::with(6);
    place.fetch_upto(3, &some(2, 5, false));
    assert_eq!(place.numbers(), [2]);
    retain(&journal, 3);
    grow(&journal, 1);
    place.push();
    let retired_upto = place.archive().existing_manifest().unwrap().retired_upto;
    assert!((3..5).contains(&retired_upto), "{retired_upto}");
    let fetched = place.fetch(&some(2, 5, false));
    assert_eq!((fetched.fetched, fetched.found, fetched.events), (3, 1, 40));
    assert!(place.is_for_reading());
    assert!(events(&place.back()).into_iter().eq(11..=50));
    // One that begins now has what the journal has.
    fs::remove_dir_all(place.back()).unwrap();
    place.fetch(&some(2, 5, false));
    assert!(place.numbers().into_iter().eq(retired_upto + 1..=5));
}

#[test]
fn a_journal_that_retires_something_with_each_segment_comes_back() {
    let place = Place::new();
    let retention = Retention { max_segments: Some(3), ..Retention::default() };
    let journal = Journal::open(place.live(), Options { retention, ..small() }).unwrap();
    let mut newest = 0;
    for count in [2, 1, 1, 2] {
        grow(&journal, count);
        newest += count;
        place.push();
        // What says what was retired last stands in the segment that is written.
        let said = semj::examine_journal(place.live(), OpenMode::Strict).unwrap().retired;
        let fetched = place.fetch(&all());
        let first = place.numbers()[0];
        assert_eq!(fetched.events, (newest + 1 - first) * 10);
        assert!(said.is_none_or(|said| first <= said.segment_number + 1), "{first}: {said:?}");
        assert!(newest < 6 || first > 2, "{first}");
        place.is_journal(first..=newest, first * 10 - 9..=newest * 10);
        fs::remove_dir_all(place.back()).unwrap();
    }
}

#[test]
fn what_was_retired_before_it_was_archived_and_nothing_archived_says_so_is_named() {
    let (place, journal) = Place::with(2);
    grow(&journal, 3);
    retain(&journal, 2);
    let retired = journal.retired().unwrap().segment_number;
    assert!(retired > 2);
    place.push();
    let refused = place.try_fetch(&all());
    let Err(error @ Error::Unsaid { number, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(number, retired);
    assert!(error.to_string().contains("push"), "{error}");
    assert!(place.is_for_reading());
    let last = *place.numbers().last().unwrap();
    assert!(place.numbers().into_iter().eq(retired + 1..=last));
    assert!(!events(&place.back()).is_empty());
    // As a part it can be had.
    fs::remove_dir_all(place.back()).unwrap();
    place.fetch(&some(retired + 1, u64::MAX, false));
    assert!(place.is_for_reading());
    // And as the journal when that is archived.
    grow(&journal, 1);
    place.push();
    place.fetch(&all());
    let last = *place.numbers().last().unwrap();
    assert!(place.numbers().into_iter().eq(retired + 1..=last));
    assert!(!place.is_for_reading());
}
