//! How a body is packed, and unpacking it. A body that unpacks to more than its limit is stopped
//! there: never may more memory be taken for it, whatever it claims.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

use super::{Error, Limits, Room, UnsupportedError};

/// What is accepted, for whoever sent something else.
const EXPECTED: &str = "gzip, zstd or identity";

/// The largest window that a zstd frame may ask for, as a power of two: 8 MiB, which HTTP holds
/// senders to (RFC 9659). A frame of a few bytes could claim gigabytes.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// What a decoder uses itself: zstd its window and its buffers, gzip its window and tables.
const ZSTD_BUFFER_BYTES: usize = 512 * 1024;
const GZIP_WORKING_BYTES: usize = 64 * 1024;

/// Members of a gzip body at most: a decoder is made for each, however little it holds.
const GZIP_MEMBERS_MAX: usize = 1_024;

/// What the zstd decoder is given at once: it says of a fault only that it was within this.
const ZSTD_STEP_BYTES: usize = 256;

/// Where a body unpacks to little, no large window is needed for it: 2 MiB, which is what zstd takes
/// at its usual level. Senders of more have to say so by more bytes.
const ZSTD_SMALL_WINDOW_LOG_MAX: u32 = 21;

/// A body that may unpack to so many bytes at most is a small one.
const SMALL_BYTES_MAX: usize = 256 * 1024;

/// A body may unpack to so many times its bytes. Generated events, which differ in little but their
/// ids, were measured at 40 to 93; gzip reaches 1,000 with blanks alone, and zstd 30,000.
pub const UNPACKED_RATIO_MAX: usize = 200;

/// However small a body is, it may unpack to so many bytes.
pub const UNPACKED_FREE_BYTES: usize = 1024 * 1024;

/// What is set aside at first for a body, at least.
const UNPACKED_BYTES_MIN: usize = 4096;

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// gzip, of one member or several.
    Gzip,
    /// Zstandard, of one frame or several.
    Zstd,
}

impl Packing {
    /// What a `content-encoding` header names.
    ///
    /// # Errors
    /// Where it names anything else, or several.
    pub fn of(content_encoding: &str) -> Result<Self, UnsupportedError> {
        let name = content_encoding.trim().to_ascii_lowercase();
        match name.as_str() {
            "identity" => Ok(Packing::Plain),
            "gzip" | "x-gzip" => Ok(Packing::Gzip),
            "zstd" => Ok(Packing::Zstd),
            _ => Err(UnsupportedError::new(
                "content-encoding",
                EXPECTED,
                content_encoding,
            )),
        }
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Packing::Plain => "identity",
            Packing::Gzip => "gzip",
            Packing::Zstd => "zstd",
        })
    }
}

/// A body as it was before it was packed. Room is taken before it grows; what the result holds stays
/// taken, and is the caller's to give back.
///
/// # Errors
/// Where it is cut short or damaged, has more bytes than a body may have or than its packed ones
/// account for, or finds no room.
pub fn unpack<'b>(
    body: &'b [u8],
    packing: Packing,
    limits: Limits,
    room: &mut dyn Room,
) -> Result<Cow<'b, [u8]>, Error> {
    let bytes_max = limits.body_bytes_max;
    if body.len() > bytes_max {
        return Err(Error::TooLarge { bytes_max });
    }
    let window_log = match bytes_max <= SMALL_BYTES_MAX {
        true => ZSTD_SMALL_WINDOW_LOG_MAX,
        false => ZSTD_WINDOW_LOG_MAX,
    };
    let working_bytes = match packing {
        Packing::Plain => return Ok(Cow::Borrowed(body)),
        Packing::Gzip => GZIP_WORKING_BYTES,
        Packing::Zstd => (1 << window_log) + ZSTD_BUFFER_BYTES,
    };
    if !room.take(working_bytes) {
        return Err(Error::NoRoom);
    }
    let accounted_bytes = body.len().saturating_mul(UNPACKED_RATIO_MAX);
    let accounted_bytes = accounted_bytes.max(UNPACKED_FREE_BYTES);
    let most = bytes_max.min(accounted_bytes);
    let unpacked = match packing {
        Packing::Zstd => zstd(body, most, window_log, room),
        _ => gzip(body, most, room),
    };
    room.give(working_bytes);
    unpacked.map(Cow::Owned).map_err(|stop| match stop {
        Stop::Full if most < bytes_max => Error::Inflates {
            ratio_max: UNPACKED_RATIO_MAX,
        },
        Stop::Full => Error::TooLarge { bytes_max },
        Stop::NoRoom => Error::NoRoom,
        Stop::Damaged { byte, source } => Error::CannotUnpack {
            packing,
            byte: byte as u64,
            problem: source.to_string(),
        },
    })
}

/// Why unpacking ended early.
enum Stop {
    Full,
    NoRoom,
    Damaged { byte: usize, source: io::Error },
}

/// Why a reader was not read to its end.
#[derive(Debug)]
enum Fault {
    /// It has more.
    Full,
    NoRoom,
    Reader(io::Error),
}

impl Fault {
    fn at(self, byte: usize) -> Stop {
        match self {
            Fault::Full => Stop::Full,
            Fault::NoRoom => Stop::NoRoom,
            Fault::Reader(source) => Stop::Damaged { byte, source },
        }
    }
}

fn gzip(body: &[u8], bytes_max: usize, room: &mut dyn Room) -> Result<Vec<u8>, Stop> {
    let mut reader = Members {
        member: GzDecoder::new(body),
        begun: 1,
    };
    let unpacked = fill(&mut reader, body.len(), bytes_max, room);
    let left = reader.member.get_ref().len();
    unpacked.map_err(|fault| fault.at(body.len() - left))
}

/// The members of a gzip body, one after the other.
struct Members<'a> {
    member: GzDecoder<&'a [u8]>,
    begun: usize,
}

impl Read for Members<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.member.read(into)?;
            let rest = *self.member.get_ref();
            if read > 0 || into.is_empty() || rest.is_empty() {
                return Ok(read);
            }
            if self.begun == GZIP_MEMBERS_MAX {
                let problem = format!("it has more than {GZIP_MEMBERS_MAX} members");
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
            self.begun += 1;
            self.member = GzDecoder::new(rest);
        }
    }
}

fn zstd(
    body: &[u8],
    bytes_max: usize,
    window_log_max: u32,
    room: &mut dyn Room,
) -> Result<Vec<u8>, Stop> {
    if body.is_empty() {
        // No frame at all would pass for an empty body.
        return Err(Fault::Reader(io::ErrorKind::UnexpectedEof.into()).at(0));
    }
    let open = || {
        let mut reader = zstd::stream::read::Decoder::with_buffer(Steps(body))?;
        reader.window_log_max(window_log_max)?;
        Ok(reader)
    };
    let mut reader = open().map_err(|source| Fault::Reader(source).at(0))?;
    let unpacked = fill(&mut reader, body.len(), bytes_max, room);
    let left = reader.get_ref().0.len();
    unpacked.map_err(|fault| fault.at(body.len() - left))
}

/// Bytes that are given a few at a time.
struct Steps<'a>(&'a [u8]);

impl Read for Steps<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl BufRead for Steps<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(&self.0[..self.0.len().min(ZSTD_STEP_BYTES)])
    }

    fn consume(&mut self, amount: usize) {
        self.0.consume(amount);
    }
}

/// All that a reader gives, if that is not more than `bytes_max` bytes. After an error nothing of
/// the room stays taken.
fn fill(
    reader: &mut impl Read,
    packed_bytes: usize,
    bytes_max: usize,
    room: &mut dyn Room,
) -> Result<Vec<u8>, Fault> {
    let mut unpacked = Vec::new();
    let filled = fill_into(&mut unpacked, reader, packed_bytes, bytes_max, room);
    match filled {
        Ok(()) => Ok(unpacked),
        Err(fault) => {
            room.give(unpacked.capacity());
            Err(fault)
        }
    }
}

fn fill_into(
    unpacked: &mut Vec<u8>,
    reader: &mut impl Read,
    packed_bytes: usize,
    bytes_max: usize,
    room: &mut dyn Room,
) -> Result<(), Fault> {
    let mut length = 0;
    loop {
        if length == bytes_max {
            // The end of the packing must have been seen too: its checksum is there.
            return match reader.read(&mut [0]).map_err(Fault::Reader)? {
                0 => Ok(()),
                _ => Err(Fault::Full),
            };
        }
        if length == unpacked.len() {
            let wanted = (4 * packed_bytes).max(2 * length).max(UNPACKED_BYTES_MIN);
            grow(unpacked, wanted.min(bytes_max), room)?;
        }
        match reader
            .read(&mut unpacked[length..])
            .map_err(Fault::Reader)?
        {
            0 => {
                unpacked.truncate(length);
                return Ok(());
            }
            read => length += read,
        }
    }
}

/// Makes a buffer longer. While it is copied there are two of it.
fn grow(buffer: &mut Vec<u8>, bytes: usize, room: &mut dyn Room) -> Result<(), Fault> {
    let held = buffer.capacity();
    if !room.take(bytes) {
        return Err(Fault::NoRoom);
    }
    buffer.reserve_exact(bytes - buffer.len());
    buffer.resize(bytes, 0);
    room.give(held + bytes - buffer.capacity());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;
    use crate::body::Boundless;

    /// Bytes that pack about as well as events do.
    fn numbers(length: usize) -> Vec<u8> {
        let words = (0..length.div_ceil(64) as u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut bytes: Vec<u8> = words
            .flat_map(|word| format!("{word:064x}").into_bytes())
            .collect();
        bytes.truncate(length);
        bytes
    }

    const PACKED: [Packing; 2] = [Packing::Gzip, Packing::Zstd];

    fn limits(body_bytes_max: usize) -> Limits {
        Limits {
            body_bytes_max,
            events_max: 1,
            event_bytes_max: 1,
        }
    }

    fn pack(bytes: &[u8], packing: Packing) -> Vec<u8> {
        match packing {
            Packing::Plain => bytes.to_vec(),
            Packing::Gzip => {
                let level = flate2::Compression::default();
                let mut packer = flate2::write::GzEncoder::new(Vec::new(), level);
                packer.write_all(bytes).unwrap();
                packer.finish().unwrap()
            }
            Packing::Zstd => {
                let mut packer = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
                packer.include_checksum(true).unwrap();
                packer.write_all(bytes).unwrap();
                packer.finish().unwrap()
            }
        }
    }

    /// A room of so many bytes.
    struct Small {
        left: usize,
    }

    impl Room for Small {
        fn take(&mut self, bytes: usize) -> bool {
            let is_there = bytes <= self.left;
            if is_there {
                self.left -= bytes;
            }
            is_there
        }

        fn give(&mut self, bytes: usize) {
            self.left += bytes;
        }
    }

    #[test]
    fn room_is_taken_before_a_body_grows_and_given_back() {
        const ROOM: usize = 24 << 20;
        for packing in PACKED {
            let packed = pack(&numbers(8 << 20), packing);
            for (room, is_enough) in [(ROOM, true), (10 << 20, false), (1000, false)] {
                let mut small = Small { left: room };
                let unpacked = unpack(&packed, packing, limits(8 << 20), &mut small);
                match unpacked {
                    Ok(bytes) => {
                        assert!(is_enough, "{packing} in {room}");
                        assert_eq!(small.left, room - bytes.len());
                        small.give(bytes.len());
                    }
                    Err(error) => assert_eq!((error, is_enough), (Error::NoRoom, false)),
                }
                assert_eq!(small.left, room, "{packing}");
            }
        }
    }

    /// Gives as much as it is asked for, and counts.
    struct Endless(usize);

    impl Read for Endless {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0 += into.len();
            Ok(into.len())
        }
    }

    #[test]
    fn content_encodings_name_packings() {
        let cases = [
            ("identity", Some(Packing::Plain)),
            ("gzip", Some(Packing::Gzip)),
            (" X-GZIP ", Some(Packing::Gzip)),
            ("zstd", Some(Packing::Zstd)),
            ("gzip, zstd", None),
            ("gzip, identity", None),
            ("deflate", None),
            ("br", None),
            ("", None),
        ];
        for (content_encoding, expected) in cases {
            assert_eq!(Packing::of(content_encoding).ok(), expected);
        }
        assert_eq!(
            Packing::of("br").unwrap_err().to_string(),
            "content-encoding: expected gzip, zstd or identity, got \"br\""
        );
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        for packing in PACKED {
            let bomb = pack(&vec![0; 64 << 20], packing);
            assert!(bomb.len() < 1 << 17, "{packing}: {}", bomb.len());
            let error = unpack(&bomb, packing, limits(1 << 20), &mut Boundless).unwrap_err();
            assert_eq!(error, Error::TooLarge { bytes_max: 1 << 20 });
        }
        for bytes_max in [0, 1, 4095, 4096, 4097, 1 << 20] {
            let mut reader = Endless(0);
            assert!(matches!(
                fill(&mut reader, 100, bytes_max, &mut Boundless),
                Err(Fault::Full)
            ));
            // One byte beyond, to see that there is more.
            assert_eq!(reader.0, bytes_max + 1);
        }
    }

    #[test]
    fn a_body_that_its_bytes_do_not_account_for_stops_early() {
        for packing in PACKED {
            let full = 16 << 20;
            let packed = pack(&vec![b'\n'; full], packing);
            let accounted_bytes = UNPACKED_FREE_BYTES.max(packed.len() * UNPACKED_RATIO_MAX);
            assert!(accounted_bytes < full, "{packing}: {}", packed.len());
            // Room for that much and no more is enough to find it out.
            let working_bytes = (1 << ZSTD_WINDOW_LOG_MAX) + ZSTD_BUFFER_BYTES;
            let mut room = Small {
                left: 2 * accounted_bytes + working_bytes,
            };
            let error = unpack(&packed, packing, limits(full), &mut room).unwrap_err();
            let ratio_max = UNPACKED_RATIO_MAX;
            assert_eq!(error, Error::Inflates { ratio_max }, "{packing}");
            // What is small is taken, however well it packs; so is what packs as events do.
            let small = pack(&vec![b'\n'; UNPACKED_FREE_BYTES], packing);
            assert!(unpack(&small, packing, limits(full), &mut Boundless).is_ok());
            let large = pack(&numbers(full), packing);
            assert!(unpack(&large, packing, limits(full), &mut Boundless).is_ok());
        }
    }

    #[test]
    fn no_more_is_set_aside_than_the_limit() {
        for (packed_bytes, length) in [(1, 5000), (600, 5000), (5000, 5000), (5000, 0), (1, 4999)] {
            let bytes = vec![7; length];
            let unpacked = fill(&mut &bytes[..], packed_bytes, 5000, &mut Boundless).unwrap();
            assert_eq!(unpacked, bytes);
            assert!(unpacked.capacity() <= 5000, "{}", unpacked.capacity());
        }
    }

    #[test]
    fn a_frame_that_asks_for_a_huge_window_is_refused() {
        let mut packer = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        packer.window_log(27).unwrap();
        packer.write_all(b"ab").unwrap();
        packer.flush().unwrap();
        let packed = packer.finish().unwrap();
        let error = unpack(&packed, Packing::Zstd, limits(1 << 20), &mut Boundless).unwrap_err();
        assert!(error.to_string().contains("too much memory"), "{error}");
    }

    #[test]
    fn a_limit_is_reached_but_not_passed() {
        for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
            let bytes = vec![7; 5000];
            let packed = pack(&bytes, packing);
            assert_eq!(
                unpack(&packed, packing, limits(5000), &mut Boundless).unwrap(),
                bytes
            );
            let error = unpack(&packed, packing, limits(4999), &mut Boundless).unwrap_err();
            assert_eq!(error, Error::TooLarge { bytes_max: 4999 });
        }
        // As it comes, too: it is not for the unpacking to find out.
        let packed = pack(b"", Packing::Gzip);
        let error = unpack(
            &packed,
            Packing::Gzip,
            limits(packed.len() - 1),
            &mut Boundless,
        )
        .unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }));
    }

    /// Guards: an empty member of 20 bytes costs as much as a page of text.
    #[test]
    fn a_body_has_a_bounded_number_of_members() {
        let empty = pack(b"", Packing::Gzip);
        let body = [
            &empty.repeat(GZIP_MEMBERS_MAX - 1)[..],
            &pack(b"a", Packing::Gzip),
        ]
        .concat();
        let unpacked = unpack(&body, Packing::Gzip, limits(1 << 20), &mut Boundless).unwrap();
        assert_eq!(unpacked.as_ref(), b"a");
        let body = [&empty[..], &body].concat();
        let error = unpack(&body, Packing::Gzip, limits(1 << 20), &mut Boundless).unwrap_err();
        assert!(error.to_string().contains("1024 members"), "{error}");
    }

    #[test]
    fn what_is_cut_or_damaged_is_found_out_with_its_place() {
        for packing in PACKED {
            let bytes: Vec<u8> = (0..3000_u32).flat_map(u32::to_le_bytes).collect();
            let packed = pack(&bytes, packing);
            for cut in 0..packed.len() {
                match unpack(&packed[..cut], packing, limits(1 << 20), &mut Boundless) {
                    Err(Error::CannotUnpack { byte, .. }) => assert!(byte <= cut as u64),
                    other => panic!("{packing} cut at {cut}: {other:?}"),
                }
            }
            // At the limit the checksum must be looked at as well.
            let mut damaged = packed.clone();
            let last = damaged.len() - if packing == Packing::Gzip { 8 } else { 1 };
            damaged[last] ^= 1;
            let error = unpack(&damaged, packing, limits(bytes.len()), &mut Boundless).unwrap_err();
            let Error::CannotUnpack { byte, .. } = error else {
                panic!("{packing}: {error}");
            };
            assert!(
                byte + ZSTD_STEP_BYTES as u64 >= last as u64,
                "{packing}: {byte}, not {last}"
            );

            let garbage = [&packed[..], b"garbage"].concat();
            let error = unpack(&garbage, packing, limits(1 << 20), &mut Boundless).unwrap_err();
            let Error::CannotUnpack { byte, .. } = error else {
                panic!("{packing}: {error}");
            };
            assert!(byte >= packed.len() as u64, "{packing}: {byte}");
        }
    }

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(parts in proptest::collection::vec(any::<Vec<u8>>(), 1..4)) {
            for packing in PACKED {
                let packed: Vec<u8> = parts.iter().flat_map(|part| pack(part, packing)).collect();
                let unpacked = unpack(&packed, packing, limits(1 << 20), &mut Boundless).unwrap();
                prop_assert_eq!(unpacked.as_ref(), parts.concat());
            }
        }

        #[test]
        fn no_bytes_bring_it_down(bytes: Vec<u8>, flip in any::<prop::sample::Index>(), bit in 0..8) {
            for packing in PACKED {
                let _ = unpack(&bytes, packing, limits(1 << 16), &mut Boundless);
                let mut packed = pack(&bytes, packing);
                let place = flip.index(packed.len());
                packed[place] ^= 1_u8 << bit;
                if let Ok(unpacked) = unpack(&packed, packing, limits(1 << 16), &mut Boundless) {
                    prop_assert!(unpacked.len() <= 1 << 16);
                }
            }
        }
    }
}
