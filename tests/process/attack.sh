# Every way known here into a home that is write-protected: $1, from a process that may write to $2.
# A line for each: `attempt NAME done` or `attempt NAME refused`.
H=$1 W=$2
attempt() { if ( eval "$2" ) >/dev/null 2>&1; then echo "attempt $1 done"; else echo "attempt $1 refused"; fi; }
attempt own 'echo x >"$W/own"'
attempt append 'echo x >>"$H/.bashrc"'
attempt create 'echo x >"$H/new"'
attempt ssh 'mkdir -p "$H/.ssh" && echo x >>"$H/.ssh/authorized_keys"'
attempt chmod 'chmod 777 "$H/.bashrc"'
attempt touch 'touch -d 2001-01-01 "$H/.bashrc"'
attempt rename 'mv "$H/.bashrc" "$H/.bashrc2"'
attempt mount-below 'echo x >>"$H/sub/file"'
attempt symlink 'ln -sfn "$H" "$W/link" && echo x >>"$W/link/.bashrc"'
attempt hard-link 'ln "$H/.bashrc" "$W/hard" && echo x >>"$W/hard"'
attempt descriptor 'echo x >&9'
attempt folder-descriptor 'echo x >>/proc/self/fd/8/.bashrc'
# The folder that this process was started in, if that is the home: no path leads through what is mounted over it.
attempt started-in '[ . -ef "$H" ] && echo x >>.bashrc'
attempt current-folder 'cd "$H" && echo x >>.bashrc'
attempt first-process 'echo x >>"/proc/1/root$H/.bashrc"'
attempt parent 'echo x >>"/proc/$PPID/root$H/.bashrc"'
attempt remount 'mount -o remount,bind,rw "$H" && echo x >>"$H/.bashrc"'
attempt unmount 'umount "$H" || umount -l "$H"; echo x >>"$H/.bashrc"'
attempt bind 'mkdir -p "$W/m" && mount --bind "$H" "$W/m" && mount -o remount,bind,rw "$W/m" && echo x >>"$W/m/.bashrc"'
attempt own-mounts 'unshare --mount sh -c "mount -o remount,bind,rw \"$H\"; umount -l \"$H\"; echo x >>\"$H/.bashrc\""'
attempt own-users 'unshare --user --map-root-user --mount sh -c "mount -o remount,bind,rw \"$H\"; umount -l \"$H\"; echo x >>\"$H/.bashrc\""'
attempt enter-mounts 'nsenter --target 1 --mount sh -c "echo x >>\"$H/.bashrc\""'
attempt enter-users 'nsenter --target 1 --user --mount sh -c "echo x >>\"$H/.bashrc\""'
attempt remove 'rm -f "$H/.bashrc"; [ ! -e "$H/.bashrc" ]'
