use quickcheck::{Arbitrary, Gen, quickcheck};

use super::*;

fn line_of(draft: &Draft<'_>) -> Vec<u8> {
    let bytes = draft.to_vec().unwrap();
    let mut line = Vec::new();
    write_event(&Record::parse(&bytes).unwrap(), &mut line).unwrap();
    line
}

fn round_trip(draft: &Draft<'_>) {
    let line = line_of(draft);
    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    let parsed = JsonEvent::parse(&line).unwrap();
    assert!(
        parsed.draft().to_vec().unwrap() == draft.to_vec().unwrap(),
        "{}",
        String::from_utf8_lossy(&line)
    );
}

#[derive(Clone, Debug)]
struct AnyEvent {
    header: Vec<u8>,
    texts: [Vec<u8>; 7],
    numbers: [u64; 4],
    link: Vec<u8>,
}

impl Arbitrary for AnyEvent {
    fn arbitrary(g: &mut Gen) -> Self {
        let bytes = |g: &mut Gen, size| (0..size).map(|_| u8::arbitrary(g)).collect::<Vec<_>>();
        let texts = std::array::from_fn(|_| match u8::arbitrary(g) % 4 {
            0 => Vec::new(),
            1 => String::arbitrary(g).into_bytes(),
            2 => br#"{"a":[1, 2.50],"b":"\u00e9"}"#.to_vec(),
            _ => Vec::arbitrary(g),
        });
        let texts = texts.map(|text| text.into_iter().filter(|byte| *byte != 0).take(60).collect());
        Self {
            header: bytes(g, 132),
            texts,
            numbers: std::array::from_fn(|_| u64::arbitrary(g)),
            link: bytes(g, 160),
        }
    }
}

quickcheck! {
    fn any_event_comes_back_from_its_line_byte_for_byte(any: AnyEvent) -> bool {
        let header = EventHeader::decode(any.header.first_chunk().unwrap());
        let links = [CausalityLink::decode(any.link.first_chunk().unwrap())];
        let [path, agent_id, agent_intent, semantic_tags, semantic_intent, payload, metadata] = &any.texts;
        let context = Context {
            path, agent_id, agent_intent, semantic_tags, semantic_intent,
            transaction_id: any.numbers[0], inode_number: any.numbers[1], file_type: any.numbers[2] as u32,
            memory_usage: any.numbers[3],
            ..Context::default()
        };
        let context = DraftContext::Fields(context);
        round_trip(&Draft { header, context, payload, metadata, links: &links });
        round_trip(&Draft { payload, ..Draft::new(header) });
        true
    }

    fn any_bytes_that_stand_as_a_context_come_back(bits: u32, rest: Vec<u8>) -> bool {
        for bits in [bits, bits & bits >> 8 & bits >> 16, 1 << (bits % 32)] {
            let context = [&bits.to_le_bytes()[..], &rest].concat();
            let header = EventHeader { event_id: 1, ..EventHeader::new(0x0101) };
            round_trip(&Draft { context: DraftContext::Encoded(&context), ..Draft::new(header) });
        }
        true
    }

    fn any_bytes_are_parsed_or_refused_without_a_panic(line: Vec<u8>) -> bool {
        let _ = JsonEvent::parse(&line);
        true
    }
}

#[test]
fn what_is_left_out_has_the_kernels_defaults() {
    let line = br#"{"event_type":"FilesystemCreate","ktime_ns":5}"#;
    let parsed = JsonEvent::parse(line).unwrap();
    let expected = EventHeader { ktime_ns: 5, ..EventHeader::new(0x0101) };
    assert_eq!(parsed.draft().header, expected);
    assert!(matches!(parsed.draft().context, DraftContext::None));
}

#[test]
fn a_date_in_place_of_a_time_is_told_by_the_clock() {
    let ktime = |date: i64, zero: i64| {
        let line = format!("{{\"event_type\":1,\"wall_clock_ns\":{date}}}");
        JsonEvent::parse_dated(line.as_bytes(), zero).unwrap().draft().header.ktime_ns
    };
    assert_eq!(ktime(1_700_000_000_000_000_005, 1_700_000_000_000_000_000), 5);
    // Before the machine was started.
    assert_eq!(ktime(-1, 1_700_000_000_000_000_000), -1_700_000_000_000_000_001);
    assert_eq!(ktime(i64::MIN, 1), i64::MIN);
    let line = br#"{"event_type":1,"ktime_ns":7}"#;
    assert_eq!(JsonEvent::parse_dated(line, 5).unwrap().draft().header.ktime_ns, 7);
}

#[test]
fn a_line_with_a_date_is_the_same_event_by_the_same_clock() {
    let zero = 1_700_000_000_000_000_000;
    for ktime_ns in [5, -7, 0, i64::MAX - zero, i64::MIN] {
        let header = EventHeader { event_id: 1, ktime_ns, ..EventHeader::new(0x0101) };
        let bytes = Draft::new(header).to_vec().unwrap();
        let record = Record::parse(&bytes).unwrap();
        let mut line = Vec::new();
        write_dated_event(&record, ktime_ns + zero, &mut line).unwrap();
        let text = String::from_utf8(line.clone()).unwrap();
        assert!(text.contains("\"wall_clock_ns\":") && !text.contains("ktime_ns"), "{text}");
        let parsed = JsonEvent::parse_dated(&line, zero).unwrap();
        assert!(parsed.draft().to_vec().unwrap() == bytes, "{text}");
    }
}

#[test]
fn a_payload_keeps_its_text() {
    let line = br#"{"event_type":257,"ktime_ns":1,"payload":{"n": 1.50,"s":"\u0041"}}"#;
    let parsed = JsonEvent::parse(line).unwrap();
    assert_eq!(parsed.draft().payload, br#"{"n": 1.50,"s":"\u0041"}"#);
}

#[test]
fn errors_name_the_field() {
    for (line, name) in [
        (r#"{"event_type":"Nope","ktime_ns":1}"#, "Nope"),
        (r#"{"event_type":"FilesystemRead"}"#, "missing field `ktime_ns`"),
        (r#"{"event_type":"FilesystemRead","ktime_ns":null}"#, "ktime_ns: invalid type: null"),
        (r#"{"event_type":1,"ktime_ns":1,"wall_clock_ns":1}"#, "both ktime_ns and wall_clock_ns"),
        (r#"{"event_type":1,"wall_clock_ns":1}"#, "wall_clock_ns: "),
        (r#"{"event_type":1,"wall_clock_ns":"x"}"#, "wall_clock_ns: invalid type: string"),
        (r#"{"event_type":"FilesystemRead","ktime_ns":1,"inode":3}"#, "inode"),
        (r#"{"event_type":99999999999,"ktime_ns":1}"#, "event_type: "),
        (r#"{"event_type":"FilesystemRead","ktime_ns":1.5}"#, "ktime_ns: "),
        (
            r#"{"event_type":1,"ktime_ns":1,"cpu_id":4294967296}"#,
            "cpu_id: invalid value: integer `4294967296`",
        ),
        (r#"{"event_type":1,"ktime_ns":1,"context":{"path":"/a","file_type":-1}}"#, "context.file_type: "),
        (r#"{"event_type":1,"ktime_ns":1,"context":{"path":5}}"#, "context.path: "),
        (r#"{"event_type":1,"ktime_ns":1,"context":7}"#, "context: "),
        (r#"{"event_type":1,"ktime_ns":1,"context":{"nope":1}}"#, "unknown field `nope`"),
        (
            r#"{"event_type":1,"ktime_ns":1,"causality_links":[{"cause_event_id":1,"effect_event_id":"x"}]}"#,
            "causality_links[0].effect_event_id: ",
        ),
        (r#"{"event_type":1,"ktime_ns":1,"context":{},"context_base64":""}"#, "both context and"),
        (r#"{"event_type":1,"ktime_ns":1,"cpu_id":1,"cpu_id":1}"#, "duplicate field `cpu_id`"),
        (r#"{"event_type":1,"ktime_ns":1"#, "EOF"),
        ("[]", "invalid type: sequence, expected an object"),
        ("5", "invalid type: integer `5`, expected an object"),
        (r#"{"event_type":1,"ktime_ns":1,"context":[]}"#, "context: invalid type: sequence, expected an"),
        (
            r#"{"event_type":1,"ktime_ns":1,"causality_links":[[1,2]]}"#,
            "causality_links[0]: invalid type: sequence, expected an object",
        ),
        (r#"{"event_type":"FilesystemRead","ktime_ns":1,"payload_base64":"?"}"#, "payload"),
        (r#"{"event_type":"FilesystemRead","ktime_ns":1,"payload":1,"payload_base64":""}"#, "payload"),
    ] {
        let error = JsonEvent::parse(line.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        assert!(!error.contains("at line 1"), "the line's number is the caller's to say: {error}");
    }
}

#[test]
fn a_null_is_a_payload_like_any_other() {
    let line = br#"{"event_type":257,"ktime_ns":1,"payload":null,"metadata":null}"#;
    let parsed = JsonEvent::parse(line).unwrap();
    assert_eq!((parsed.draft().payload, parsed.draft().metadata), (&b"null"[..], &b"null"[..]));
    let line = String::from_utf8(line_of(&parsed.draft())).unwrap();
    assert!(line.contains(r#""payload":null,"metadata":null"#), "{line}");
    round_trip(&parsed.draft());
}

#[test]
fn tags_that_look_like_json_come_back_byte_for_byte() {
    for tags in [&b"null"[..], br#""text""#, b"{}", b"[1, 2]", b"text", b"1e400", b"\xff"] {
        let context = Context { semantic_tags: tags, ..Context::default() };
        let header = EventHeader { event_id: 1, ..EventHeader::new(0x0101) };
        round_trip(&Draft { context: DraftContext::Fields(context), ..Draft::new(header) });
    }
}

#[test]
fn a_context_that_is_none_comes_back_byte_for_byte() {
    let header = EventHeader { event_id: 1, ..EventHeader::new(0x0101) };
    round_trip(&Draft { context: DraftContext::Encoded(&[0xFF; 10]), ..Draft::new(header) });
}

#[test]
fn a_context_that_says_more_than_its_fields_comes_back_byte_for_byte() {
    let fields = Context { path: b"/a", inode_number: 7, ..Context::default() };
    let mut plain = [0; FIXED_SIZE];
    fields.to_fixed(&mut plain).unwrap();
    let (mut behind_nul, mut without_end) = (plain, plain);
    behind_nul[24 + 5] = b'x';
    without_end[24..24 + 4096].fill(b'x');
    let contexts: [&[u8]; 5] = [
        &behind_nul,
        &without_end,
        // A transaction that is 0, a path that is empty, a path with a NUL byte.
        &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[8, 0, 0, 0, 0, 0],
        &[8, 0, 0, 0, 3, 0, b'a', 0, b'b'],
    ];
    let header = EventHeader { event_id: 1, ..EventHeader::new(0x0101) };
    for context in contexts {
        round_trip(&Draft { context: DraftContext::Encoded(context), ..Draft::new(header) });
    }
    // What the fields say is said by them: it can be had back in the same form.
    let draft = Draft { context: DraftContext::Encoded(&plain), ..Draft::new(header) };
    let line = line_of(&draft);
    let parsed = JsonEvent::parse(&line).unwrap();
    let DraftContext::Fields(again) = parsed.draft().context else { unreachable!("{parsed:?}") };
    assert_eq!(again, fields);
}

#[test]
fn an_event_that_brings_its_id_is_its_own_root_unless_it_says_otherwise() {
    let parsed = JsonEvent::parse(br#"{"event_id":7,"event_type":1,"ktime_ns":1}"#).unwrap();
    let header = parsed.draft().header;
    assert_eq!((header.root_cause_event_id, header.sequence, header.global_sequence), (7, 7, 7));
    let line = br#"{"event_id":7,"event_type":1,"ktime_ns":1,"root_cause_event_id":0,"sequence":3}"#;
    let header = JsonEvent::parse(line).unwrap().draft().header;
    assert_eq!((header.root_cause_event_id, header.sequence, header.local_sequence), (0, 3, 7));
}

#[test]
fn later_context_fields_survive() {
    let unknown_fields = [2, 0, b'h', b'i'];
    let context = Context { unknown_bits: 1 << 22, unknown_fields: &unknown_fields, ..Context::default() };
    let header = EventHeader { event_id: 1, ..EventHeader::new(0x0101) };
    round_trip(&Draft { context: DraftContext::Fields(context), ..Draft::new(header) });
}
