//! The context: 21 fields that say what an event was about, in two forms.
//!
//! * The **fixed form** is the kernel's structure of 5,280 bytes: integers, and texts that are NUL-terminated
//!   and NUL-padded.
//! * The **compact form** holds only the fields that are set. It begins with a `u32` of presence bits, one
//!   for each field in the order of the fixed form; the present fields follow in that order: integers in
//!   their width, texts as a `u16` length and their bytes. Bits 21 to 31 are for later fields, each of which
//!   is a `u16` length and as many bytes, so that a reader that does not know them can pass over them.
//!
//! A field that is zero or empty is not set. A record says by its `context_size` which form it carries: 0
//! none, 5,280 the fixed form, anything else the compact form. A compact form is therefore never 5,280 bytes
//! long or longer; the fixed form takes its place there.

use thiserror::Error;

use crate::layout::{load, store};
use crate::limits::CONTEXT_SIZE_MAX;

/// Bytes of the fixed form.
pub const FIXED_SIZE: usize = CONTEXT_SIZE_MAX;
/// Presence bits of the fields that have a name.
const KNOWN_BITS: u32 = (1 << FIELD_COUNT) - 1;
/// Fields up to this bit, `file_type` the last of them, are looked at one by one; the others only if one of them is set.
const PLAIN_FIELDS: u32 = 6;
/// Bytes of the presence bits.
const PRESENCE_SIZE: usize = 4;

/// Why a context can't be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ContextError {
    /// A text is longer than the fixed form can hold.
    #[error("context field {field} has {length} bytes, its limit is {limit}")]
    TextTooLong {
        /// The field's name.
        field: &'static str,
        /// The text's length in bytes.
        length: usize,
        /// The longest text that the field can hold, in bytes.
        limit: usize,
    },
    /// A text contains a NUL byte, which would end it in the fixed form.
    #[error("context field {field} has a NUL byte at offset {at}")]
    TextHasNul {
        /// The field's name.
        field: &'static str,
        /// Where in the text the byte stands.
        at: usize,
    },
    /// A compact context ends inside a field.
    #[error("compact context of {available} bytes ends inside a field that needs {needed}")]
    Truncated {
        /// Bytes up to the end of the field.
        needed: usize,
        /// Bytes there are.
        available: usize,
    },
    /// A compact context goes on behind its last field.
    #[error("compact context has {excess} bytes behind its last field")]
    Excess {
        /// How many bytes.
        excess: usize,
    },
    /// Neither form can hold the context: later fields that are not known here take too much room.
    #[error("context of {length} bytes is larger than {FIXED_SIZE} with fields that the fixed form lacks")]
    TooLarge {
        /// Bytes that the compact form would have.
        length: usize,
    },
    /// Fields that are not known here can't be put into the fixed form.
    #[error("context has later fields (presence bits {bits:#010x}) that the fixed form lacks")]
    UnknownFields {
        /// Their presence bits.
        bits: u32,
    },
}

/// Which of its forms a context has in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextForm {
    /// The record has no context.
    None,
    /// Only the fields that are set.
    Compact,
    /// The kernel's structure.
    Fixed,
}

impl ContextForm {
    /// The form that a `context_size` stands for.
    pub const fn of_size(context_size: usize) -> Self {
        match context_size {
            0 => Self::None,
            FIXED_SIZE => Self::Fixed,
            _ => Self::Compact,
        }
    }
}

/// Generates [`Context`] and everything that goes through its fields from one table of
/// `bit offset-in-fixed-form name: kind`.
macro_rules! context_fields {
    ($( $(#[$meta:meta])* $bit:literal $offset:literal $field:ident: $kind:ident $([$size:literal])?; )*) => {
        /// The context fields. Texts are bytes: a path on Linux need not be UTF-8.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Context<'a> {
            $( $(#[$meta])* pub $field: context_fields!(@type $kind), )*
            /// Presence bits of later fields that are not known here.
            pub unknown_bits: u32,
            /// Those fields as they stand in the compact form, kept so that a round trip loses nothing.
            pub unknown_fields: &'a [u8],
        }

        const FIELD_COUNT: u32 = [$( $bit ),*].len() as u32;

        /// Bytes of the compact form but for the text itself, by the presence bits of the plain fields.
        const PLAIN_SIZES: [usize; 1 << PLAIN_FIELDS] = {
            let mut sizes = [PRESENCE_SIZE; 1 << PLAIN_FIELDS];
            let mut bits = 0;
            while bits < sizes.len() {
                $( if $bit < PLAIN_FIELDS && bits >> $bit & 1 != 0 {
                    sizes[bits] += context_fields!(@fixed_part $kind);
                } )*
                bits += 1;
            }
            sizes
        };

        const _: () = {
            let mut bit = 0;
            let mut end = 0;
            $(
                assert!($bit == bit && $offset == end);
                bit += 1;
                end += context_fields!(@size $kind $($size)?);
            )*
            assert!(bit == 21 && end == FIXED_SIZE);
        };

        impl<'a> Context<'a> {
            /// Whether no field is set but the first ones. Most contexts are like that, and to ask for each of the
            /// others what it is would take longer than to write what there is.
            #[inline(always)]
            pub(crate) fn is_plain(&self) -> bool {
                let mut others = u64::from(self.unknown_bits) | self.unknown_fields.len() as u64;
                $( if $bit >= PLAIN_FIELDS { others |= context_fields!(@weight $kind self.$field); } )*
                others == 0
            }

            /// Presence bits of the fields that are set.
            #[inline(always)]
            pub(crate) fn presence(&self, is_plain: bool) -> u32 {
                let mut bits = 0;
                $( if $bit < PLAIN_FIELDS {
                    bits |= u32::from(context_fields!(@set $kind self.$field)) << $bit;
                } )*
                if is_plain { bits } else { bits | self.later_presence() }
            }

            /// Apart, as all that is for contexts with many fields: it is long, and most are plain.
            #[inline(never)]
            fn later_presence(&self) -> u32 {
                let mut bits = self.unknown_bits & !KNOWN_BITS;
                $( if $bit >= PLAIN_FIELDS {
                    bits |= u32::from(context_fields!(@set $kind self.$field)) << $bit;
                } )*
                bits
            }

            /// Bytes of the compact form.
            #[inline]
            pub fn compact_size(&self) -> usize {
                let is_plain = self.is_plain();
                self.compact_size_of(is_plain, self.presence(is_plain))
            }

            #[inline(always)]
            fn compact_size_of(&self, is_plain: bool, presence: u32) -> usize {
                if is_plain {
                    return PLAIN_SIZES[presence as usize % PLAIN_SIZES.len()] + self.path.len();
                }
                let mut size = PRESENCE_SIZE + self.unknown_fields.len();
                $( size += context_fields!(@compact_size $kind self.$field); )*
                size
            }

            /// Checks what the fixed form demands of texts, so that either form can hold the context.
            ///
            /// # Errors
            ///
            /// The first text that is too long or contains a NUL byte.
            #[inline]
            pub fn check(&self) -> Result<(), ContextError> {
                if self.is_plain() { self.check_of(true) } else { self.check_of(false) }
            }

            #[inline(always)]
            fn check_of(&self, is_plain: bool) -> Result<(), ContextError> {
                $( if $bit < PLAIN_FIELDS || !is_plain {
                    context_fields!(@check $kind self.$field, stringify!($field) $(, $size)?);
                } )*
                Ok(())
            }

            /// Reads the compact form.
            ///
            /// # Errors
            ///
            /// The bytes end inside a field, or go on behind the last one.
            pub fn from_compact(bytes: &'a [u8]) -> Result<Self, ContextError> {
                let mut reader = CompactReader { bytes, at: 0 };
                let bits: u32 = reader.integer::<4, u32>()?;
                let mut context = Self::default();
                $(
                    if bits & (1 << $bit) != 0 {
                        context.$field = context_fields!(@read $kind reader);
                    }
                )*
                context.unknown_bits = bits & !KNOWN_BITS;
                let unknown_start = reader.at;
                for _ in 0..context.unknown_bits.count_ones() {
                    reader.text()?;
                }
                // Behind the last field that was read: never past the end.
                context.unknown_fields = bytes.get(unknown_start..reader.at).unwrap_or_default();
                match bytes.len() - reader.at {
                    0 => Ok(context),
                    excess => Err(ContextError::Excess { excess }),
                }
            }

            /// Writes the compact form to the beginning of `out`, which has [`Self::compact_size`] bytes.
            #[inline(always)]
            fn write_compact(&self, is_plain: bool, presence: u32, out: &mut [u8]) {
                let mut at = 0;
                put_integer(presence, out, &mut at);
                $(
                    if ($bit < PLAIN_FIELDS || !is_plain) && presence & 1 << $bit != 0 {
                        context_fields!(@write $kind self.$field, out, at);
                    }
                )*
                if !is_plain {
                    out[at..at + self.unknown_fields.len()].copy_from_slice(self.unknown_fields);
                }
            }

            /// Reads the fixed form. Each text ends at its first NUL byte.
            pub fn from_fixed(bytes: &'a [u8; FIXED_SIZE]) -> Self {
                Self {
                    $( $field: context_fields!(@from_fixed $kind bytes, $offset $(, $size)?), )*
                    ..Self::default()
                }
            }

            /// Writes the fixed form over `out`.
            ///
            /// # Errors
            ///
            /// A text that the form can't hold, or fields that it lacks.
            pub fn to_fixed(&self, out: &mut [u8; FIXED_SIZE]) -> Result<(), ContextError> {
                self.check()?;
                if self.unknown_bits != 0 {
                    return Err(ContextError::UnknownFields { bits: self.unknown_bits });
                }
                out.fill(0);
                $( context_fields!(@to_fixed $kind self.$field, out, $offset); )*
                Ok(())
            }
        }
    };

    (@type u32) => { u32 };
    (@type u64) => { u64 };
    (@type text) => { &'a [u8] };

    (@size u32) => { 4 };
    (@size u64) => { 8 };
    (@size text $size:literal) => { $size };

    (@fixed_part text) => { 2 };
    (@fixed_part $int:ident) => { size_of::<$int>() };

    (@set text $value:expr) => { !$value.is_empty() };
    (@set $int:ident $value:expr) => { $value != 0 };

    (@weight text $value:expr) => { $value.len() as u64 };
    (@weight $int:ident $value:expr) => { u64::from($value) };

    (@compact_size text $value:expr) => { if $value.is_empty() { 0 } else { 2 + $value.len() } };
    (@compact_size $int:ident $value:expr) => { if $value == 0 { 0 } else { size_of::<$int>() } };

    (@check text $value:expr, $name:expr, $size:literal) => { check_text($value, $name, $size - 1)? };
    (@check $int:ident $value:expr, $name:expr) => {};

    (@read text $reader:ident) => { $reader.text()? };
    (@read u32 $reader:ident) => { $reader.integer::<4, u32>()? };
    (@read u64 $reader:ident) => { $reader.integer::<8, u64>()? };

    (@write text $value:expr, $out:ident, $at:ident) => { put_text($value, $out, &mut $at) };
    (@write $int:ident $value:expr, $out:ident, $at:ident) => { put_integer($value, $out, &mut $at) };

    (@from_fixed text $bytes:ident, $offset:literal, $size:literal) => {
        until_nul(&$bytes[$offset..$offset + $size])
    };
    (@from_fixed $int:ident $bytes:ident, $offset:literal) => { load::<$int>($bytes, $offset) };

    (@to_fixed text $value:expr, $out:ident, $offset:literal) => {
        $out[$offset..$offset + $value.len()].copy_from_slice($value)
    };
    (@to_fixed $int:ident $value:expr, $out:ident, $offset:literal) => { store($value, $out, $offset) };
}

context_fields! {
    /// The transaction the event belongs to.
    0 0 transaction_id: u64;
    /// The session the event belongs to.
    1 8 session_id: u64;
    /// The causal chain the event belongs to.
    2 16 causality_chain_id: u64;
    /// The file's path, at most 4,095 bytes.
    3 24 path: text[4096];
    /// The file's inode number.
    4 4120 inode_number: u64;
    /// `st_mode & S_IFMT`.
    5 4128 file_type: u32;
    /// The graph node.
    6 4132 graph_node_id: u64;
    /// The graph edge.
    7 4140 graph_edge_id: u64;
    /// The graph operation.
    8 4148 graph_operation_type: u32;
    /// The vector.
    9 4152 vector_id: u64;
    /// How many dimensions the vector has.
    10 4160 vector_dimensions: u32;
    /// What the vector's elements are.
    11 4164 vector_element_type: u32;
    /// The agent's name, at most 63 bytes.
    12 4168 agent_id: text[64];
    /// What the agent was about, at most 255 bytes.
    13 4232 agent_intent: text[256];
    /// 0 to 100.
    14 4488 agent_confidence: u32;
    /// The system's load.
    15 4492 system_load: u32;
    /// Memory in use.
    16 4496 memory_usage: u64;
    /// Pressure on I/O.
    17 4504 io_pressure: u32;
    /// A JSON object as text, at most 511 bytes.
    18 4508 semantic_tags: text[512];
    /// What the operation was for, at most 255 bytes.
    19 5020 semantic_intent: text[256];
    /// 0 to 100.
    20 5276 semantic_confidence: u32;
}

impl Context<'_> {
    /// Bytes that the context takes in a record: the compact form's, or the fixed form's where that is not
    /// larger.
    ///
    /// # Errors
    ///
    /// A text that the fixed form can't hold, or later fields with which neither form can hold the context.
    #[inline]
    pub fn encoded_size(&self) -> Result<usize, ContextError> {
        let is_plain = self.is_plain();
        self.measure(is_plain, self.presence(is_plain))
    }

    /// [`Self::encoded_size`], where it is known which fields are set.
    #[inline(always)]
    pub(crate) fn measure(&self, is_plain: bool, presence: u32) -> Result<usize, ContextError> {
        if is_plain {
            self.check_of(true)?;
            // Shorter than the fixed form, whatever the path is.
            return Ok(self.compact_size_of(true, presence));
        }
        self.measure_any(presence)
    }

    #[inline(never)]
    fn measure_any(&self, presence: u32) -> Result<usize, ContextError> {
        self.check_of(false)?;
        match self.compact_size_of(false, presence) {
            size if size < FIXED_SIZE => Ok(size),
            length if self.unknown_bits != 0 => Err(ContextError::TooLarge { length }),
            _ => Ok(FIXED_SIZE),
        }
    }

    /// Writes the context over `out`, whose length is what [`Self::encoded_size`] gave.
    #[inline(always)]
    pub(crate) fn write(&self, is_plain: bool, presence: u32, out: &mut [u8]) {
        if is_plain {
            return self.write_compact(true, presence, out);
        }
        self.write_any(presence, out);
    }

    #[inline(never)]
    fn write_any(&self, presence: u32, out: &mut [u8]) {
        match out.first_chunk_mut::<FIXED_SIZE>() {
            // `encoded_size` has made the checks that could fail here.
            Some(fixed) => drop(self.to_fixed(fixed)),
            None => self.write_compact(false, presence, out),
        }
    }

    /// Reads the context of a record in whichever form it has; `None` where it has none.
    ///
    /// # Errors
    ///
    /// A compact form that is not one.
    pub fn parse(bytes: &[u8]) -> Result<Option<Context<'_>>, ContextError> {
        match (bytes.first_chunk::<FIXED_SIZE>(), bytes) {
            (_, []) => Ok(None),
            (Some(fixed), _) => Ok(Some(Context::from_fixed(fixed))),
            (None, compact) => Context::from_compact(compact).map(Some),
        }
    }
}

/// What queries ask most often of a context, read without the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lead<'a> {
    /// [`Context::transaction_id`].
    pub transaction_id: u64,
    /// [`Context::path`].
    pub path: &'a [u8],
    /// [`Context::inode_number`].
    pub inode_number: u64,
    /// Whether it is known that [`Context::parse`] gives a context: always of the fixed form, and of the compact form where
    /// none but the first fields are set.
    pub is_readable: bool,
    /// Whether that is known because it is of the compact form and none but the first fields are set, up to
    /// [`Context::file_type`].
    pub is_plain: bool,
}

impl<'a> Lead<'a> {
    /// Reads these fields in whichever form the context has. Whether the rest of it can be read is not looked at; where
    /// [`Context::parse`] gives a context, it has these values.
    ///
    /// # Errors
    ///
    /// A compact form that ends before the fields do.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ContextError> {
        if let Some(fixed) = bytes.first_chunk::<FIXED_SIZE>() {
            return Ok(Self {
                transaction_id: load(fixed, 0),
                path: until_nul(&fixed[24..24 + 4096]),
                inode_number: load(fixed, 4120),
                is_readable: true,
                is_plain: false,
            });
        }
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = CompactReader { bytes, at: 0 };
        let bits: u32 = reader.integer::<4, u32>()?;
        let mut lead = Self::default();
        if bits & 1 != 0 {
            lead.transaction_id = reader.integer::<8, u64>()?;
        }
        // Session and chain.
        reader.take((bits >> 1 & 0b11).count_ones() as usize * 8)?;
        if bits & 1 << 3 != 0 {
            lead.path = reader.text()?;
        }
        if bits & 1 << 4 != 0 {
            lead.inode_number = reader.integer::<8, u64>()?;
        }
        let plain_size = PLAIN_SIZES.get(bits as usize).map(|size| size + lead.path.len());
        lead.is_plain = plain_size == Some(bytes.len());
        lead.is_readable = lead.is_plain;
        Ok(lead)
    }
}

/// A position in a compact context.
struct CompactReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> CompactReader<'a> {
    fn take(&mut self, size: usize) -> Result<&'a [u8], ContextError> {
        let needed = self.at + size;
        let taken = self
            .bytes
            .get(self.at..needed)
            .ok_or(ContextError::Truncated { needed, available: self.bytes.len() })?;
        self.at = needed;
        Ok(taken)
    }

    fn integer<const N: usize, T: crate::layout::Field>(&mut self) -> Result<T, ContextError> {
        Ok(load(self.take(N)?, 0))
    }

    fn text(&mut self) -> Result<&'a [u8], ContextError> {
        let length: [u8; 2] = self.integer::<2, [u8; 2]>()?;
        self.take(u16::from_le_bytes(length).into())
    }
}

#[inline(always)]
fn check_text(text: &[u8], field: &'static str, limit: usize) -> Result<(), ContextError> {
    if text.len() > limit || has_nul(text) {
        return Err(text_error(text, field, limit));
    }
    Ok(())
}

/// Sixteen bytes are looked at at a time; the last sixteen may be looked at twice in part. With a way out in between, because
/// compilers make thousands of instructions of the loop without it.
#[inline(always)]
fn has_nul(text: &[u8]) -> bool {
    let any_nul = |bytes: &[u8; 16]| bytes.iter().fold(false, |found, byte| found | (*byte == 0));
    match text.last_chunk::<16>() {
        Some(last) => {
            let (chunks, _) = text.as_chunks::<16>();
            any_nul(last) || chunks.iter().any(any_nul)
        }
        None => short_has_nul(text),
    }
}

#[inline(never)]
fn short_has_nul(text: &[u8]) -> bool {
    text.contains(&0)
}

#[cold]
#[inline(never)]
fn text_error(text: &[u8], field: &'static str, limit: usize) -> ContextError {
    match text.iter().position(|&byte| byte == 0) {
        Some(at) if text.len() <= limit => ContextError::TextHasNul { field, at },
        _ => ContextError::TextTooLong { field, length: text.len(), limit },
    }
}

#[inline(always)]
fn put_integer<T: crate::layout::Field>(value: T, out: &mut [u8], at: &mut usize) {
    value.store(out, *at);
    *at += T::SIZE;
}

#[inline(always)]
fn put_text(text: &[u8], out: &mut [u8], at: &mut usize) {
    // `check` has bounded every text by 4,095 bytes.
    put_integer((text.len() as u16).to_le_bytes(), out, at);
    copy_text(text, &mut out[*at..*at + text.len()]);
    *at += text.len();
}

/// Copies a text to `out`, which is as long. Those of the usual lengths of paths go by two moves that overlap, which
/// takes less time than a call of `memcpy`.
#[inline(always)]
fn copy_text(text: &[u8], out: &mut [u8]) {
    match text.len() {
        16..32 => copy_ends::<16>(text, out),
        32..64 => copy_ends::<32>(text, out),
        64..128 => copy_ends::<64>(text, out),
        _ => out.copy_from_slice(text),
    }
}

/// Copies the first and the last `N` bytes.
#[inline(always)]
fn copy_ends<const N: usize>(from: &[u8], to: &mut [u8]) {
    let (first, last) = (from.first_chunk::<N>(), from.last_chunk::<N>());
    if let (Some(first), Some(to)) = (first, to.first_chunk_mut()) {
        *to = *first;
    }
    if let (Some(last), Some(to)) = (last, to.last_chunk_mut()) {
        *to = *last;
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use quickcheck::{Arbitrary, Gen, quickcheck};

    use super::*;

    #[derive(Clone, Debug)]
    struct AnyContext {
        numbers: [u64; 16],
        texts: [Vec<u8>; 5],
    }

    impl Arbitrary for AnyContext {
        fn arbitrary(g: &mut Gen) -> Self {
            let mut number = || if bool::arbitrary(g) { u64::arbitrary(g) } else { 0 };
            let numbers = core::array::from_fn(|_| number());
            let texts = [4095usize, 63, 255, 511, 255].map(|limit| {
                let length = *g.choose(&[0, 0, 1, limit / 2, limit]).unwrap();
                (0..length).map(|_| u8::arbitrary(g).max(1)).collect()
            });
            Self { numbers, texts }
        }
    }

    impl AnyContext {
        fn context(&self) -> Context<'_> {
            let n = &self.numbers;
            Context {
                transaction_id: n[0],
                session_id: n[1],
                causality_chain_id: n[2],
                path: &self.texts[0],
                inode_number: n[3],
                file_type: n[4] as u32,
                graph_node_id: n[5],
                graph_edge_id: n[6],
                graph_operation_type: n[7] as u32,
                vector_id: n[8],
                vector_dimensions: n[9] as u32,
                vector_element_type: n[10] as u32,
                agent_id: &self.texts[1],
                agent_intent: &self.texts[2],
                agent_confidence: n[11] as u32,
                system_load: n[12] as u32,
                memory_usage: n[13],
                io_pressure: n[14] as u32,
                semantic_tags: &self.texts[3],
                semantic_intent: &self.texts[4],
                semantic_confidence: n[15] as u32,
                ..Context::default()
            }
        }
    }

    fn encoded(context: &Context<'_>) -> Vec<u8> {
        let mut out = vec![0xEE; context.encoded_size().unwrap()];
        context.write(context.is_plain(), context.presence(context.is_plain()), &mut out);
        out
    }

    quickcheck! {
        fn both_forms_hold_all_fields_without_loss(any: AnyContext) -> bool {
            let context = any.context();
            let mut fixed = [0xEE; FIXED_SIZE];
            context.to_fixed(&mut fixed).unwrap();
            let compact = encoded(&context);
            Context::from_fixed(&fixed) == context && Context::parse(&compact) == Ok(Some(context))
        }

        fn a_lead_has_the_values_of_the_whole(any: AnyContext) -> bool {
            let context = any.context();
            let mut fixed = [0xEE; FIXED_SIZE];
            context.to_fixed(&mut fixed).unwrap();
            let expected = |is_readable, is_plain| Ok(Lead {
                transaction_id: context.transaction_id,
                path: context.path,
                inode_number: context.inode_number,
                is_readable,
                is_plain,
            });
            let encoded = encoded(&context);
            let is_plain = context.is_plain() && encoded.len() != FIXED_SIZE;
            Lead::parse(&encoded) == expected(is_plain || encoded.len() == FIXED_SIZE, is_plain)
                && Lead::parse(&fixed) == expected(true, false)
        }

        fn where_a_context_can_be_read_its_lead_can(bytes: Vec<u8>) -> bool {
            match (Context::parse(&bytes), Lead::parse(&bytes)) {
                (Ok(Some(context)), Ok(lead)) => {
                    (context.transaction_id, context.path, context.inode_number)
                        == (lead.transaction_id, lead.path, lead.inode_number)
                }
                (Ok(Some(_)), Err(_)) => false,
                (Err(_) | Ok(None), Ok(lead)) => !lead.is_readable,
                (_, Err(_)) => true,
            }
        }

        fn a_lead_knows_which_plain_contexts_can_be_read(presence: u8, rest: Vec<u8>) -> bool {
            // A short path's length, so that some end where they should.
            let mut bytes = vec![presence % (1 << PLAIN_FIELDS), 0, 0, 0];
            bytes.extend(rest.iter().map(|byte| byte % 2));
            match (Context::parse(&bytes), Lead::parse(&bytes)) {
                (Ok(Some(context)), Ok(lead)) => lead.is_plain && context.is_plain(),
                (_, Ok(lead)) => !lead.is_plain,
                (parsed, Err(_)) => parsed.is_err(),
            }
        }

        fn any_bytes_are_parsed_or_refused_without_a_panic(bytes: Vec<u8>) -> bool {
            match Context::from_compact(&bytes) {
                Ok(context) => context.compact_size() <= bytes.len(),
                Err(_) => true,
            }
        }

        fn a_compact_context_cut_anywhere_is_refused(any: AnyContext) -> bool {
            let context = any.context();
            let mut compact = vec![0; context.compact_size()];
            context.write_compact(false, context.presence(false), &mut compact);
            (0..compact.len()).all(|end| Context::from_compact(&compact[..end]).is_err())
        }
    }

    #[test]
    fn a_path_of_any_length_comes_back_and_a_nul_anywhere_in_it_is_refused() {
        for length in 1..300 {
            let mut path: Vec<u8> = (0..length).map(|at| (at % 255 + 1) as u8).collect();
            let context = Context { path: &path, ..Context::default() };
            assert_eq!(Context::parse(&encoded(&context)), Ok(Some(context)), "{length} bytes");
            for at in 0..length {
                let byte = core::mem::take(&mut path[at]);
                let context = Context { path: &path, ..Context::default() };
                assert!(context.encoded_size().is_err(), "NUL at {at} of {length} bytes");
                path[at] = byte;
            }
        }
    }

    #[test]
    fn a_size_tells_the_form() {
        let forms = [0, 1, FIXED_SIZE - 1, FIXED_SIZE].map(ContextForm::of_size);
        assert_eq!(
            forms,
            [ContextForm::None, ContextForm::Compact, ContextForm::Compact, ContextForm::Fixed]
        );
    }

    #[test]
    fn a_file_with_a_path_of_40_bytes_costs_at_most_60() {
        let path = [b'p'; 40];
        let context =
            Context { path: &path, inode_number: u64::MAX, file_type: 0o100000, ..Context::default() };
        assert_eq!(encoded(&context).len(), 58);
    }

    #[test]
    fn a_context_without_fields_is_four_bytes_and_not_the_same_as_none() {
        assert_eq!(encoded(&Context::default()), [0; 4]);
        assert_eq!(Context::parse(&[]), Ok(None));
        assert_eq!(Context::parse(&[0; 4]), Ok(Some(Context::default())));
    }

    #[test]
    fn what_the_fixed_form_cannot_hold_is_refused_by_name_length_and_limit() {
        let long = [b'x'; 4096];
        for (context, field, limit) in [
            (Context { path: &long, ..Context::default() }, "path", 4095),
            (Context { agent_id: &long[..64], ..Context::default() }, "agent_id", 63),
            (Context { agent_intent: &long[..256], ..Context::default() }, "agent_intent", 255),
            (Context { semantic_tags: &long[..512], ..Context::default() }, "semantic_tags", 511),
            (Context { semantic_intent: &long[..256], ..Context::default() }, "semantic_intent", 255),
        ] {
            let expected = ContextError::TextTooLong { field, length: limit + 1, limit };
            assert_eq!(context.encoded_size(), Err(expected));
        }
        let nul = Context { path: b"a\0b", ..Context::default() };
        assert_eq!(nul.encoded_size(), Err(ContextError::TextHasNul { field: "path", at: 1 }));
    }

    #[test]
    fn later_fields_are_passed_over_and_kept() {
        let mut bytes = Vec::new();
        bytes.extend((1u32 << 0 | 1 << 21 | 1 << 31).to_le_bytes());
        bytes.extend(42u64.to_le_bytes());
        bytes.extend([3, 0, b'a', b'b', b'c', 1, 0, b'z']);
        let context = Context::from_compact(&bytes).unwrap();
        assert_eq!(context.transaction_id, 42);
        assert_eq!(context.unknown_fields, [3, 0, b'a', b'b', b'c', 1, 0, b'z']);
        assert_eq!(encoded(&context), bytes);
        let bits = 1 << 21 | 1 << 31;
        assert_eq!(context.to_fixed(&mut [0; FIXED_SIZE]), Err(ContextError::UnknownFields { bits }));
    }

    #[test]
    fn a_compact_form_as_large_as_the_fixed_one_gives_way_to_it() {
        let text = [b'x'; 4095];
        let full = Context {
            transaction_id: 1,
            session_id: 1,
            causality_chain_id: 1,
            path: &text,
            inode_number: 1,
            file_type: 1,
            graph_node_id: 1,
            graph_edge_id: 1,
            graph_operation_type: 1,
            vector_id: 1,
            vector_dimensions: 1,
            vector_element_type: 1,
            agent_id: &text[..63],
            agent_intent: &text[..255],
            agent_confidence: 1,
            system_load: 1,
            memory_usage: 1,
            io_pressure: 1,
            semantic_tags: &text[..511],
            semantic_intent: &text[..255],
            semantic_confidence: 1,
            ..Context::default()
        };
        assert!(full.compact_size() >= FIXED_SIZE);
        let bytes = encoded(&full);
        assert_eq!(bytes.len(), FIXED_SIZE);
        assert_eq!(Context::parse(&bytes), Ok(Some(full)));
    }
}
