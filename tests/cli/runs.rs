//! Run folders: locks, kills, full disks, resuming.
