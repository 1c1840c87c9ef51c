//! Declares on-disk structures as the byte maps that they are.
//!
//! [`on_disk!`] takes a table of `offset field: type` rows and makes a struct with `decode` and `encode`
//! from it. That the rows leave no hole and end at the stated size is asserted at compile time, so the
//! declaration can be held against SPEC.md by eye. All integers are little-endian; nothing is aligned.

/// A field type that has a fixed form on disk.
pub trait Field: Sized {
    /// Bytes on disk.
    const SIZE: usize;
    /// Reads the field at `at`. The callers are [`on_disk!`] structures, whose offsets are constants that
    /// were checked against the buffer's size at compile time.
    fn load(bytes: &[u8], at: usize) -> Self;
    /// Writes the field at `at`, under the same condition.
    fn store(&self, bytes: &mut [u8], at: usize);
}

impl<const N: usize> Field for [u8; N] {
    const SIZE: usize = N;
    #[inline(always)]
    fn load(bytes: &[u8], at: usize) -> Self {
        let mut out = [0; N];
        out.copy_from_slice(&bytes[at..at + N]);
        out
    }
    #[inline(always)]
    fn store(&self, bytes: &mut [u8], at: usize) {
        bytes[at..at + N].copy_from_slice(self);
    }
}

macro_rules! integer_field {
    ($($int:ty),*) => {$(
        impl Field for $int {
            const SIZE: usize = size_of::<$int>();
            #[inline(always)]
            fn load(bytes: &[u8], at: usize) -> Self {
                <$int>::from_le_bytes(Field::load(bytes, at))
            }
            #[inline(always)]
            fn store(&self, bytes: &mut [u8], at: usize) {
                self.to_le_bytes().store(bytes, at);
            }
        }
    )*};
}
integer_field!(u8, u32, u64, i64);

/// Declares a packed little-endian structure: `pub struct Name [size] { offset field: type, … }`.
#[macro_export]
macro_rules! on_disk {
    (
        $(#[$meta:meta])*
        pub struct $name:ident [$size:literal] {
            $( $(#[$field_meta:meta])* $offset:literal $field:ident: $ty:ty, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        // In the order of the disk, so that fields which follow one another are moved together.
        #[repr(C)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
        }

        impl $name {
            #[doc = concat!("Bytes on disk: ", stringify!($size), ".")]
            pub const SIZE: usize = $size;

            /// Reads the structure. Every bit pattern is a value; what may not occur is checked by others.
            #[inline]
            pub fn decode(bytes: &[u8; $size]) -> Self {
                Self { $( $field: <$ty as $crate::layout::Field>::load(bytes, $offset), )* }
            }

            /// The structure as its bytes on disk.
            #[inline]
            pub fn encode(&self) -> [u8; $size] {
                let mut bytes = [0; $size];
                self.encode_into(&mut bytes);
                bytes
            }

            /// Writes the structure over `bytes`.
            #[inline(always)]
            pub fn encode_into(&self, bytes: &mut [u8; $size]) {
                $( $crate::layout::Field::store(&self.$field, bytes, $offset); )*
            }
        }

        const _: () = {
            let mut end = 0;
            $(
                assert!(end == $offset, "a hole or an overlap before this field");
                end += <$ty as $crate::layout::Field>::SIZE;
            )*
            assert!(end == $size, "the fields do not add up to the size");
        };
    };
}
pub(crate) use on_disk;

/// The integer at a fixed offset of a fixed-size array; offset and size are checked where it is used.
#[inline(always)]
pub(crate) fn load<T: Field>(bytes: &[u8], at: usize) -> T {
    T::load(bytes, at)
}

/// Writes an integer at an offset that the caller has checked.
#[inline(always)]
pub(crate) fn store<T: Field>(value: T, bytes: &mut [u8], at: usize) {
    value.store(bytes, at);
}
