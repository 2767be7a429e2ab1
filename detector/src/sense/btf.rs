//! PURE. Where a field is, from the running kernel's type information (BTF).
//!
//! Walks the bytes where they are: the general parsers build a graph of all 140,000 types, tens of
//! megabytes that a small daemon would keep for fifty numbers.
//!
//! Format: <https://docs.kernel.org/bpf/btf.html>.
//!
//! **Invariant:** any bytes give a place or an error, never a panic.

use std::collections::BTreeSet;

/// What is wrong with the type information.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// Not BTF.
    #[error("it does not begin as type information does")]
    NotBtf,
    /// Cut off, or damaged.
    #[error("it ends before it should, at byte {0}")]
    Cut(usize),
    /// The kernel has no such type or member.
    #[error("this kernel has no {0}")]
    Missing(String),
    /// The member has another size than the programs read.
    #[error("{path} has {found} bytes on this kernel, the programs read {expected}")]
    Width {
        /// The member.
        path: String,
        /// Its size.
        found: u32,
        /// The size that was expected.
        expected: u32,
    },
}

const KIND_INT: u32 = 1;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Longest chain of typedefs and arrays that is followed.
const DEPTH: u32 = 32;
/// Most anonymous types that are searched for one member.
const NESTED: usize = 256;

/// Type information, indexed by type.
#[derive(Debug)]
pub struct Btf {
    bytes: Vec<u8>,
    strings: usize,
    /// Byte at which each type starts; type 0 is `void`.
    types: Vec<usize>,
}

#[derive(Clone, Copy)]
struct Type {
    at: usize,
    name: u32,
    kind: u32,
    members: usize,
    has_bitfields: bool,
    /// Size of the type or the type that is referred to.
    size_or_type: u32,
}

impl Btf {
    /// Indexes type information.
    ///
    /// # Errors
    /// When the bytes are not BTF or end early.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        if bytes.get(..2) != Some(&0xeb9f_u16.to_ne_bytes()) {
            return Err(BtfError::NotBtf);
        }
        let word = |at: usize| word(&bytes, at);
        let header = word(4)? as usize;
        let start = header.saturating_add(word(8)? as usize);
        let end = start.saturating_add(word(12)? as usize);
        let strings = header.saturating_add(word(16)? as usize);
        let strings_end = strings.saturating_add(word(20)? as usize);
        if end > bytes.len() || strings_end > bytes.len() {
            return Err(BtfError::Cut(bytes.len()));
        }
        let mut btf = Self {
            bytes,
            strings,
            types: vec![0],
        };
        let mut at = start;
        while at < end {
            let ty = btf.read(at)?;
            btf.types.push(at);
            let extra = match ty.kind {
                KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
                KIND_ARRAY => 12,
                KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * ty.members,
                KIND_ENUM | KIND_FUNC_PROTO => 8 * ty.members,
                _ => 0,
            };
            at += 12 + extra;
        }
        Ok(btf)
    }

    /// Byte offset of the member `struct.member.member`, which must have `width` bytes.
    ///
    /// # Errors
    /// When this kernel has no such member, or one of another size.
    pub fn offset(&self, path: &str, width: u32) -> Result<u32, BtfError> {
        let missing = || BtfError::Missing(path.to_owned());
        let (name, members) = path.split_once('.').ok_or_else(missing)?;
        let mut ty = self.find(name).ok_or_else(missing)?;
        let mut bits = 0;
        for member in members.split('.') {
            let found = self.member(ty, member, &mut BTreeSet::new())?;
            let (place, next) = found.ok_or_else(missing)?;
            bits = place.saturating_add(bits);
            ty = next;
        }
        let found = self.size(ty, DEPTH)?;
        if found != width {
            return Err(BtfError::Width {
                path: path.to_owned(),
                found,
                expected: width,
            });
        }
        if bits % 8 != 0 {
            return Err(missing());
        }
        Ok(bits / 8)
    }

    /// Number of arguments of a tracepoint, from the type of its probes.
    pub fn tracepoint_arguments(&self, tracepoint: &str) -> Option<usize> {
        let name = format!("btf_trace_{tracepoint}");
        let typedef = self
            .all()
            .find(|ty| ty.kind == KIND_TYPEDEF && self.name(*ty) == name.as_bytes())?;
        let pointer = self.ty(typedef.size_or_type)?;
        let function = self.ty(pointer.size_or_type)?;
        // The first argument is the probe's own data.
        (function.kind == KIND_FUNC_PROTO).then(|| function.members.saturating_sub(1))
    }

    /// Whether the kernel has this helper for programs; each has a type for its arguments
    /// (`BPF_CALL_1` and so on, `include/linux/filter.h`).
    pub fn has_helper(&self, helper: &str) -> bool {
        let name = format!("btf_{helper}");
        self.all()
            .any(|ty| ty.kind == KIND_TYPEDEF && self.name(ty) == name.as_bytes())
    }

    fn all(&self) -> impl Iterator<Item = Type> {
        self.types
            .iter()
            .skip(1)
            .filter_map(|at| self.read(*at).ok())
    }

    fn find(&self, name: &str) -> Option<Type> {
        self.all().find(|ty| {
            matches!(ty.kind, KIND_STRUCT | KIND_UNION) && self.name(*ty) == name.as_bytes()
        })
    }

    fn ty(&self, id: u32) -> Option<Type> {
        let at = *self.types.get(id as usize).filter(|at| **at != 0)?;
        self.read(at).ok()
    }

    fn read(&self, at: usize) -> Result<Type, BtfError> {
        let info = word(&self.bytes, at + 4)?;
        Ok(Type {
            at,
            name: word(&self.bytes, at)?,
            kind: (info >> 24) & 0x1f,
            members: (info & 0xffff) as usize,
            has_bitfields: info >> 31 == 1,
            size_or_type: word(&self.bytes, at + 8)?,
        })
    }

    fn name(&self, ty: Type) -> &[u8] {
        self.string(ty.name)
    }

    fn string(&self, offset: u32) -> &[u8] {
        let from = self
            .bytes
            .get(self.strings.saturating_add(offset as usize)..)
            .unwrap_or(&[]);
        from.split(|byte| *byte == 0).next().unwrap_or(&[])
    }

    /// Behind typedefs and qualifiers.
    fn bare(&self, mut ty: Type) -> Option<Type> {
        for _ in 0..DEPTH {
            match ty.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    ty = self.ty(ty.size_or_type)?;
                }
                _ => return Some(ty),
            }
        }
        None
    }

    /// Bit offset and type of a member; anonymous members are searched too, each type once: one that
    /// was searched before had nothing, and damaged information can hold a type within itself.
    fn member(
        &self,
        ty: Type,
        name: &str,
        searched: &mut BTreeSet<usize>,
    ) -> Result<Option<(u32, Type)>, BtfError> {
        let Some(ty) = self.bare(ty) else {
            return Ok(None);
        };
        let is_struct = matches!(ty.kind, KIND_STRUCT | KIND_UNION);
        if !is_struct || searched.len() >= NESTED || !searched.insert(ty.at) {
            return Ok(None);
        }
        for index in 0..ty.members {
            let at = ty.at + 12 + 12 * index;
            let place = word(&self.bytes, at + 8)?;
            // With bit-fields the upper byte is the width.
            let bits = if ty.has_bitfields {
                place & 0x00ff_ffff
            } else {
                place
            };
            let is_bitfield = ty.has_bitfields && place >> 24 != 0;
            let Some(inner) = self.ty(word(&self.bytes, at + 4)?) else {
                continue;
            };
            let label = self.string(word(&self.bytes, at)?);
            if label == name.as_bytes() {
                return Ok((!is_bitfield).then_some((bits, inner)));
            }
            if label.is_empty()
                && let Some((further, found)) = self.member(inner, name, searched)?
            {
                return Ok(Some((bits.saturating_add(further), found)));
            }
        }
        Ok(None)
    }

    fn size(&self, ty: Type, depth: u32) -> Result<u32, BtfError> {
        let Some(ty) = self.bare(ty).filter(|_| depth > 0) else {
            return Ok(0);
        };
        Ok(match ty.kind {
            KIND_INT | KIND_STRUCT | KIND_UNION | KIND_ENUM | KIND_ENUM64 => ty.size_or_type,
            KIND_PTR => 8,
            KIND_ARRAY => {
                let element = self.ty(word(&self.bytes, ty.at + 12)?);
                let count = word(&self.bytes, ty.at + 20)?;
                let size = element.map_or(Ok(0), |element| self.size(element, depth - 1))?;
                size.saturating_mul(count)
            }
            _ => 0,
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    let end = at.checked_add(4).ok_or(BtfError::Cut(bytes.len()))?;
    let four = bytes.get(at..end).ok_or(BtfError::Cut(bytes.len()))?;
    four.try_into()
        .map(u32::from_ne_bytes)
        .map_err(|_| BtfError::Cut(bytes.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn running_kernel() -> Option<Vec<u8>> {
        std::fs::read("/sys/kernel/btf/vmlinux").ok()
    }

    #[test]
    fn fields_that_never_moved_are_where_they_always_were() {
        let Some(bytes) = running_kernel() else {
            panic!("this test needs a kernel with BTF")
        };
        let btf = Btf::parse(bytes).unwrap();
        assert_eq!(btf.offset("sock_common.skc_family", 2), Ok(16));
        assert_eq!(btf.offset("sock_common.skc_state", 1), Ok(18));
        // Behind an anonymous union and struct.
        assert_eq!(btf.offset("sock_common.skc_dport", 2), Ok(12));
    }

    #[test]
    fn a_missing_member_and_a_wrong_width_are_named() {
        let Some(bytes) = running_kernel() else {
            panic!("this test needs a kernel with BTF")
        };
        let btf = Btf::parse(bytes).unwrap();
        let missing = btf.offset("tcp_sock.no_such_thing", 4).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "this kernel has no tcp_sock.no_such_thing"
        );
        let wide = btf.offset("sock_common.skc_state", 4).unwrap_err();
        assert_eq!(
            wide.to_string(),
            "sock_common.skc_state has 1 bytes on this kernel, the programs read 4"
        );
        // A bit-field has no byte of its own.
        assert!(btf.offset("inet_connection_sock.icsk_ca_state", 1).is_err());
    }

    #[test]
    fn a_file_that_is_cut_off_says_so() {
        let Some(mut bytes) = running_kernel() else {
            panic!("this test needs a kernel with BTF")
        };
        bytes.truncate(100_000);
        assert_eq!(Btf::parse(bytes).unwrap_err(), BtfError::Cut(100_000));
        assert_eq!(Btf::parse(b"hello".to_vec()).unwrap_err(), BtfError::NotBtf);
    }

    /// What has done harm once, and what fuzzing begins with.
    #[test]
    fn known_damage_is_read_in_no_time() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/btf");
        let files = std::fs::read_dir(corpus).unwrap().flatten();
        let files: Vec<_> = files.map(|it| std::fs::read(it.path()).unwrap()).collect();
        assert!(files.len() > 1, "the one that hung is missing");
        for bytes in files {
            let btf = Btf::parse(bytes).unwrap();
            let _ = crate::sense::offsets::checks(&btf);
        }
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 24..400)) {
            bytes[..2].copy_from_slice(&0xeb9f_u16.to_ne_bytes());
            bytes[4..8].copy_from_slice(&24_u32.to_ne_bytes());
            bytes[8..12].copy_from_slice(&0_u32.to_ne_bytes());
            if let Ok(btf) = Btf::parse(bytes) {
                let _ = btf.offset("a.b.c", 4);
                let _ = btf.tracepoint_arguments("x");
            }
        }
    }
}
