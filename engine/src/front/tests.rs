//! The front end as a whole: what one thread or many put in comes out in the order of the ids, and what does not is a gap.

use semj_format::{EventHeader, Gap, control};

use super::emit::Unpublished;
use super::*;

const PATIENCE: Patience<'static> = Patience { backpressure: Backpressure::Wait, make_room: None };

fn front(places: usize) -> Front {
    let setup = Setup {
        places,
        commit_interval: Duration::from_millis(1),
        claim_timeout: Duration::from_millis(20),
        group_size_max: 1 << 20,
        heeds_priority: false,
    };
    Front::new(1, setup).unwrap()
}

fn draft(payload: &[u8]) -> Draft<'_> {
    Draft { payload, ..Draft::new(EventHeader::new(0x0101)) }
}

fn emitted<'a>(draft: &'a Draft<'a>) -> Emitted<'a> {
    Emitted { draft, origin: Origin::of(&draft.header), measure: draft.measure().unwrap() }
}

fn push(front: &Front, payload: &[u8]) -> Result<u64, Error> {
    front.push(&emitted(&draft(payload)), PATIENCE)
}

/// What the committer gets: ids of events, and gaps as ranges of ids with the number of events in them.
fn gather(front: &Front) -> (Vec<u64>, Vec<(u64, u64, u64)>) {
    let (mut events, mut gaps) = (Vec::new(), Vec::new());
    loop {
        let mut batch = Batch::default();
        let is_complete = front.gather(&mut batch, front.ring.tail(), u64::MAX, 1);
        for (_, record) in semj_format::Records::new(batch.bytes(), 0).map(|record| record.unwrap()) {
            record.verify_checksum().unwrap();
            match control::parse::<Gap>(&record) {
                Ok(Some(gap)) => gaps.push((gap.first_event_id, gap.last_event_id, gap.event_count)),
                _ => events.push(record.event_id()),
            }
        }
        if is_complete {
            return (events, gaps);
        }
    }
}

#[test]
fn a_stopped_producer_delays_the_others_by_the_timeout_at_most_and_leaves_a_gap() {
    let front = front(64);
    assert_eq!(push(&front, b"1").unwrap(), 1);
    let mut homes = [0];
    let stopped = front.ring.claim(&mut homes, None).unwrap();
    assert_eq!(push(&front, b"3").unwrap(), 3);
    let started = Instant::now();
    assert_eq!(gather(&front), (vec![1, 3], vec![(2, 2, 1)]));
    assert!(started.elapsed() >= Duration::from_millis(20));

    // The place goes round, and only then the producer comes back.
    for n in 4..4 + 64 {
        assert_eq!(push(&front, b"again").unwrap(), n);
        assert_eq!(gather(&front), (vec![n], vec![]));
    }
    let is_taken = front.fill(&stopped, 0, homes[0], None, &emitted(&draft(b"late")));
    assert!(!is_taken, "it is told that it is late");
    assert_eq!(push(&front, b"next").unwrap(), 68);
    assert_eq!(gather(&front), (vec![68], vec![]));
}

#[test]
fn a_producer_that_unwinds_holds_nobody_up() {
    let front = front(64);
    let mut homes = [0];
    let claim = front.ring.claim(&mut homes, None).unwrap();
    drop(Unpublished { front: &front, place: claim.first_place, home: homes[0], slot: None });
    push(&front, b"2").unwrap();
    let started = Instant::now();
    assert_eq!(gather(&front), (vec![2], vec![(1, 1, 1)]));
    assert!(started.elapsed() < Duration::from_millis(20));
}

#[test]
fn who_commits_its_own_events_does_not_wake_the_committer_for_each() {
    /// Lets the committer end, whatever comes.
    struct Closing<'f>(&'f Front);
    impl Drop for Closing<'_> {
        fn drop(&mut self) {
            self.0.close();
        }
    }

    let front = front(64);
    let wait_for = |is_wanted: fn(u8) -> bool| loop {
        let sleep = front.sleep.load(Ordering::SeqCst);
        if is_wanted(sleep) {
            return sleep;
        }
        std::thread::yield_now();
    };
    std::thread::scope(|scope| {
        scope.spawn(|| while front.next_work() != Work::Close {});
        let _closing = Closing(&front);
        for _ in 0..3 {
            wait_for(|sleep| sleep == Sleep::Asleep as u8);
            // As by an event that is committed by the time that it comes to look.
            front.wake();
            let sleep = wait_for(|sleep| sleep != Sleep::Awake as u8);
            assert_eq!(sleep, Sleep::Dozing as u8, "the next event may come at once");
        }
    });
}

#[test]
fn of_a_batch_whose_producer_stopped_nothing_is_taken() {
    for published in 0..3 {
        let front = front(64);
        push(&front, b"1").unwrap();
        let mut homes = [0; 3];
        let claim = front.ring.claim(&mut homes, None).unwrap();
        push(&front, b"5").unwrap();
        let draft = draft(b"one of three");
        let fill = |index: u64| front.fill(&claim, index, homes[index as usize], None, &emitted(&draft));
        assert!(fill(published));
        assert_eq!(gather(&front), (vec![1, 5], vec![(2, 4, 3)]), "member {published}");
        for index in (0..3).filter(|index| *index != published) {
            assert!(!fill(index));
        }
        for n in 6..300 {
            assert_eq!(push(&front, b"on and on").unwrap(), n);
            assert_eq!(gather(&front), (vec![n], vec![]));
        }
    }
}

#[test]
fn producers_that_stop_at_the_same_time_are_waited_for_once() {
    let front = front(256);
    push(&front, b"1").unwrap();
    let mut homes = [0; 32];
    let batch = front.ring.claim(&mut homes, None).unwrap();
    push(&front, b"34").unwrap();
    for _ in 0..4 {
        front.ring.claim(&mut [0], None).unwrap();
        push(&front, b"and another one").unwrap();
    }
    let started = Instant::now();
    let (events, gaps) = gather(&front);
    let taken = started.elapsed();
    assert_eq!(events, [1, 34, 36, 38, 40, 42]);
    assert_eq!(gaps.iter().map(|(first, last, _)| last - first + 1).sum::<u64>(), 36, "{gaps:?}");
    let timeout = front.setup.claim_timeout;
    assert!(taken >= timeout && taken < timeout * 8, "{taken:?}: 36 places were taken away");
    assert!(!front.fill(&batch, 0, homes[0], None, &emitted(&draft(b"late"))));
}

#[test]
fn places_of_producers_that_never_come_back_are_replaced_by_the_thousand() {
    let setup = Setup { claim_timeout: Duration::from_micros(100), ..front(64).setup };
    let front = Front::new(1, setup).unwrap();
    for round in 0..250 {
        front.ring.claim(&mut [0; 16], None).unwrap();
        let id = push(&front, b"goes on").unwrap();
        assert_eq!(id, round * 17 + 17);
        let (events, gaps) = gather(&front);
        assert_eq!((events, gaps.len()), (vec![id], 1));
    }
}

#[test]
fn memory_of_a_batch_whose_place_is_taken_away_is_there_for_the_next_one() {
    let front = front(64);
    let large = vec![1; 60_000];
    let draft = draft(&large);
    let events = vec![emitted(&draft); 40];
    let mut stopped = front.reserve_for_test(3 << 20);
    let (claim, home) = front.claim_ids(0, 50, Some(&mut stopped)).unwrap().unwrap();
    assert_eq!(gather(&front), (vec![], vec![(1, 50, 0)]));
    let refused = Patience { backpressure: Backpressure::Fail, make_room: None };
    assert_eq!(front.push_batch(&events, refused).unwrap(), 51..91, "who stopped has no memory any more");
    assert!(front.push_batch(&events, refused).is_err());
    assert!(!front.publish_external(&claim, home, External::Batch(Batch::default())), "it comes back");
    drop(stopped);
    assert_eq!(gather(&front).0.len(), 40);
    assert_eq!(front.external_bytes(), 0);
}

#[test]
fn all_ids_of_a_batch_whose_producer_stopped_are_in_the_gap_whatever_stands_behind_it() {
    // Who has a batch that does not go through the slab claims one place for all of its ids.
    let front = front(64);
    push(&front, b"1").unwrap();
    let (_stopped, _) = front.claim_ids(0, 40, None).unwrap().unwrap();
    assert_eq!(gather(&front), (vec![1], vec![(2, 41, 0)]), "nothing stands behind it");

    let (_stopped, _) = front.claim_ids(0, 40, None).unwrap().unwrap();
    push(&front, b"82").unwrap();
    assert_eq!(gather(&front), (vec![82], vec![(42, 81, 0)]));

    // What stands behind it comes in another group.
    let (stopped, _) = front.claim_ids(0, 40, None).unwrap().unwrap();
    let mut homes = [0];
    let slow = front.ring.claim(&mut homes, None).unwrap();
    let mut batch = Batch::default();
    assert!(front.gather(&mut batch, stopped.first_place + 1, u64::MAX, 1));
    assert!(batch.is_empty(), "it is not known yet where the gap ends");
    assert!(front.fill(&slow, 0, homes[0], None, &emitted(&draft(b"123"))));
    assert_eq!(gather(&front), (vec![123], vec![(83, 122, 0)]));
}

#[test]
fn what_is_published_before_it_is_taken_away_is_taken_in() {
    let front = front(64);
    push(&front, b"1").unwrap();
    let draft = draft(b"of a batch");
    let batch = |count| (0..count).map(|_| emitted(&draft)).collect::<Vec<_>>();
    assert_eq!(front.push_batch(&batch(3), PATIENCE).unwrap(), 2..5);
    assert_eq!(front.push_batch(&batch(40), PATIENCE).unwrap(), 5..45, "outside of the slab, at one place");
    for place in [0, 1, 4] {
        assert_eq!(front.revoke(&mut Batch::default(), place), 0, "place {place}");
    }
    assert_eq!(gather(&front), ((1..45).collect(), vec![]));
}

#[test]
fn records_of_every_size_and_batches_of_every_length_come_out_in_the_order_of_their_ids() {
    let front = front(256);
    let large = vec![7; 65_536];
    let mut next = 1;
    for round in 0..200usize {
        let payload = &large[..round * 331 % 65_536];
        assert_eq!(push(&front, payload).unwrap(), next);
        let drafts: Vec<_> = (0..round % 50).map(|i| draft(&large[..i * 97])).collect();
        let events: Vec<_> = drafts.iter().map(emitted).collect();
        let count = events.len() as u64;
        assert_eq!(front.push_batch(&events, PATIENCE).unwrap(), next + 1..next + 1 + count);
        let (events, gaps) = gather(&front);
        assert!(events.iter().copied().eq(next..=next + count) && gaps.is_empty(), "round {round}");
        next += count + 1;
    }
}

#[test]
fn imported_ids_jump_and_never_go_back() {
    let front = front(64);
    let import = |id| {
        let mut draft = draft(b"");
        draft.header.event_id = id;
        front.push(&emitted(&draft), PATIENCE)
    };
    assert_eq!(import(5).unwrap(), 5);
    assert_eq!(push(&front, b"").unwrap(), 6);
    assert_eq!(import(7).unwrap(), 7);
    assert!(matches!(import(7), Err(Error::IdOrder { found: 7, after: 7 })));
    assert!(matches!(import(u64::MAX), Err(Error::Exhausted { .. })));
    assert_eq!(push(&front, b"").unwrap(), 8);
    assert_eq!(gather(&front), (vec![5, 6, 7, 8], vec![]));
}

#[test]
fn producers_on_many_threads_lose_nothing_when_the_ring_is_full_most_of_the_time() {
    const EVENTS: u64 = 20_000;
    let front = front(64);
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        let producers: Vec<_> = (0..4u8)
            .map(|producer| {
                let front = &front;
                scope.spawn(move || {
                    (0..EVENTS).all(|n| push(front, &vec![producer; n as usize % 700]).is_ok())
                })
            })
            .collect();
        while seen.len() < 4 * EVENTS as usize {
            let (events, gaps) = gather(&front);
            assert!(gaps.is_empty());
            seen.extend(events);
        }
        assert!(producers.into_iter().all(|producer| producer.join().unwrap()));
    });
    assert!(seen.iter().copied().eq(1..=4 * EVENTS));
}

#[test]
fn producers_that_die_in_mid_claim_leave_gaps_and_nothing_else_is_lost() {
    const EVENTS: usize = 3_000;
    let setup = Setup { claim_timeout: Duration::from_micros(300), ..front(64).setup };
    let front = Front::new(1, setup).unwrap();
    let (mut events, mut missing) = (Vec::new(), 0);
    std::thread::scope(|scope| {
        let producers: Vec<_> = (0..4usize)
            .map(|producer| {
                let front = &front;
                scope.spawn(move || {
                    let (mut taken, mut died) = (0, 0);
                    for n in 0..EVENTS {
                        match (n + producer) % 197 {
                            // It claims, writes half of its record, and is never seen again: so often at most
                            // that there are spare slots for those that it keeps.
                            0 if n > EVENTS / 2 => {
                                let claim = front.ring.claim(&mut [0], None);
                                died += usize::from(claim.is_ok());
                            }
                            // It is stopped, and comes back when its place may be another's.
                            1 => {
                                let mut homes = [0];
                                let Ok(claim) = front.ring.claim(&mut homes, None) else { continue };
                                std::thread::sleep(Duration::from_millis(1));
                                let event = draft(b"late");
                                let is_taken = front.fill(&claim, 0, homes[0], None, &emitted(&event));
                                taken += usize::from(is_taken);
                                died += usize::from(!is_taken);
                            }
                            _ => match push(front, &vec![producer as u8; n % 700]) {
                                Ok(_) => taken += 1,
                                Err(Error::Revoked { .. }) => died += 1,
                                Err(error) => unreachable!("{error}"),
                            },
                        }
                    }
                    (taken, died)
                })
            })
            .collect();
        while !producers.iter().all(|producer| producer.is_finished()) || front.pending() > 0 {
            let (taken, gaps) = gather(&front);
            events.extend(taken);
            missing += gaps.iter().map(|(_, _, count)| *count as usize).sum::<usize>();
        }
        let sums = producers.into_iter().map(|producer| producer.join().unwrap());
        let (emitted, died) = sums.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        assert_eq!((events.len(), missing), (emitted, died));
    });
    assert!(events.is_sorted_by(|before, after| before < after));
    assert!(missing > 0);
}
