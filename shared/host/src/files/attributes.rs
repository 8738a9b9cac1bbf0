//! What a file bears beside owner and mode, its ACL and extended attributes, carried over to the
//! file that takes its place.

use std::fs::File;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::FileError;
use super::folder::Place;

/// The ACL, as xattr(7) has it.
const ACL: &str = "system.posix_acl_access";

/// The entry of the file's own group in it.
const OWN_GROUP: u16 = 0x04;

/// The label of SELinux, which its policy may refuse to have set.
const LABEL: &str = "security.selinux";

/// The largest value of an attribute, in bytes (xattr(7)).
const MOST: usize = 64 * 1024;

/// Gives `new` the ACL and the attributes of the file at `place`, if there is one, and no ACL that
/// the folder has given it.
///
/// # Errors
/// If the file system takes them no more: the file at `place` is to stay.
pub(super) fn carry(place: &Place, new: &File) -> Result<(), FileError> {
    let fault = |errno| FileError::errno("keep the attributes of", &place.path)(errno);
    let old = match place.open_file() {
        Ok(Some(old)) => old,
        // What is no regular file that may be read is refused where it is looked at.
        Ok(None) | Err(_) => return Ok(()),
    };
    let names = names(&old).map_err(fault)?;
    let mut value = vec![0; MOST];
    for name in names.iter().filter(|name| is_carried(name)) {
        let length = match rustix::fs::fgetxattr(&old, name.as_str(), &mut value[..]) {
            Ok(length) => length,
            Err(Errno::NODATA) => continue,
            Err(errno) => return Err(fault(errno)),
        };
        match rustix::fs::fsetxattr(new, name.as_str(), &value[..length], XattrFlags::empty()) {
            Ok(()) => {}
            Err(_) if name == LABEL => {}
            Err(errno) => return Err(fault(errno)),
        }
    }
    if !names.iter().any(|name| name == ACL) {
        match rustix::fs::fremovexattr(new, ACL) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(errno) => return Err(fault(errno)),
        }
    }
    Ok(())
}

/// Returns the mode that a file of `mode` has without its ACL, if it has one: the rights of its
/// group in `mode` are the ACL's mask, of which others may have more than the group.
pub(super) fn mode_without_acl(file: &File, mode: u32) -> Option<u32> {
    let mut value = vec![0; MOST];
    let length = rustix::fs::fgetxattr(file, ACL, &mut value[..]).ok()?;
    // A version, then entries of tag, rights and id, all little-endian (linux/posix_acl_xattr.h).
    let mut entries = value[..length].get(4..)?.chunks_exact(8);
    let group = entries.find(|entry| entry[..2] == OWN_GROUP.to_le_bytes());
    let rights = group.map_or(0, |entry| u32::from(entry[2]) & 0o7);
    // The mask holds for the group as well.
    Some(mode & (!0o070 | rights << 3))
}

/// Capabilities and checksums are of the very content that they were given for.
fn is_carried(name: &str) -> bool {
    name == ACL || name == LABEL || name.starts_with("user.") || name.starts_with("trusted.")
}

/// Lists the attributes of a file; none where the file system has none.
fn names(file: &File) -> Result<Vec<String>, Errno> {
    let mut list = vec![0; MOST];
    let length = match rustix::fs::flistxattr(file, &mut list[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
        Err(errno) => return Err(errno),
    };
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.filter_map(|name| std::str::from_utf8(name).ok().map(str::to_owned)).collect())
}
