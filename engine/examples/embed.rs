//! The example in README.md.

use semj::{Event, EventType, Journal, Options};

fn main() -> Result<(), semj::Error> {
    let journal = Journal::open("./journal", Options::default())?;

    let id = journal
        .emit(&Event::new(EventType::FILESYSTEM_CREATE).path("/etc/motd").payload(br#"{"mode":420}"#))?;
    journal.sync()?; // on disk from here on, whatever happens

    // Or at once; all who wait at the same time share one sync.
    journal.emit_durable(&Event::new(EventType::FILESYSTEM_DELETE).path("/etc/motd"))?;

    let reader = journal.reader(); // a view of what is committed now
    if let Some(record) = reader.get(id)? {
        println!("{} {:?}", record.event_type(), record.payload());
    }
    for record in reader.iter(1..) {
        let record = record?;
        println!("{} {}", record.event_id(), record.event_type());
    }

    journal.close()?;
    Ok(())
}
