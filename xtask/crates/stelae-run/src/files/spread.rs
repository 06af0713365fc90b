//! Where ext4 puts new folders.
//!
//! ext4 gives a new file the number of a removed one only some minutes later, and looks at each number in turn until it finds one
//! that it may give. Folders that are made and removed one after the other, each with hundreds of files, lie in one part of the disk:
//! after a few runs a clone took four times as long. A folder with the flag `T` has its folders put into different parts.

use camino::Utf8Path;

/// Has the folders that are made in this one put into different parts of the disk, where it is one of ext4. A folder that cannot be
/// told so is slower, and no less right.
pub fn spread(folder: &Utf8Path) {
    #[cfg(target_os = "linux")]
    linux::spread(folder).ok();
    #[cfg(not(target_os = "linux"))]
    let _ = folder;
}

#[cfg(target_os = "linux")]
mod linux {
    use camino::Utf8Path;
    use rustix::fs::{CWD, IFlags, Mode, OFlags, ioctl_getflags, ioctl_setflags, openat};

    pub(super) fn spread(folder: &Utf8Path) -> rustix::io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(CWD, folder.as_str(), flags, Mode::empty())?;
        let now = ioctl_getflags(&folder)?;
        if now.contains(IFlags::TOPDIR) { Ok(()) } else { ioctl_setflags(&folder, now | IFlags::TOPDIR) }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::files::test_folder;

        /// The number of ext4, and of the two before it, which have the flag as well.
        const EXT: u64 = 0xef53;

        #[test]
        fn a_folder_of_ext4_is_told_and_its_other_flags_stay() {
            let (_guard, folder) = test_folder();
            let flags = || ioctl_getflags(std::fs::File::open(&folder).unwrap());
            let before = flags();
            let told = spread(&folder);
            if u64::try_from(rustix::fs::statfs(folder.as_str()).unwrap().f_type) == Ok(EXT) {
                assert_eq!((told, flags().unwrap()), (Ok(()), before.unwrap() | IFlags::TOPDIR));
                assert_eq!(spread(&folder), Ok(()));
            }
            assert!(spread(&folder.join("missing")).is_err());
        }
    }
}
