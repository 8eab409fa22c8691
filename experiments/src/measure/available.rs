//! Memory that is left for this process.

use std::fs;
use std::path::Path;

/// Where control groups are mounted.
const GROUPS: &str = "/sys/fs/cgroup";
/// Files of a control group: its limit, what it uses, and the line of its statistics with what it would give up.
const VERSION_1: [&str; 3] = [
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    "total_inactive_file ",
];
const VERSION_2: [&str; 3] = ["memory.max", "memory.current", "inactive_file "];

/// Bytes that this process can still take: what the system has, or less if a limit leaves less, that of the process
/// (`ulimit -v`) or of a control group, such as a container or a job. None on systems where this is not implemented.
pub(crate) fn available_bytes() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let of_system = bytes(&read("/proc/meminfo"), "MemAvailable:")?;
    let of_process = of_process(&read("/proc/self/limits"), &read("/proc/self/status"));
    let of_groups = of_groups(&read("/proc/self/cgroup"), Path::new(GROUPS));
    let limited = [of_process, of_groups].into_iter().flatten();
    Some(limited.fold(of_system, u64::min))
}

/// The number of bytes in the line of this name.
fn bytes(lines: &str, name: &str) -> Option<u64> {
    let kibibytes = lines.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = kibibytes.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kibibytes)
}

/// What the limit of the address space leaves, if there is one.
fn of_process(limits: &str, status: &str) -> Option<u64> {
    let mut limits = limits.lines();
    let limit = limits.find_map(|line| line.strip_prefix("Max address space"))?;
    // Otherwise it is the word `unlimited`.
    let limit: u64 = limit.split_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(bytes(status, "VmSize:")?))
}

/// The least that is left in the control groups of this process and in those around them.
fn of_groups(groups: &str, mounted: &Path) -> Option<u64> {
    let left = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let (root, files) = match controllers {
            "" => (mounted.to_owned(), VERSION_2),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (mounted.join("memory"), VERSION_1)
            }
            _ => return None,
        };
        let own = root.join(path.trim_start_matches('/'));
        let all = own.ancestors().filter(|group| group.starts_with(&root));
        all.filter_map(|group| of_group(group, files)).min()
    });
    left.min()
}

/// What is left in a control group; none without a limit.
fn of_group(group: &Path, [limit, used, unneeded]: [&str; 3]) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (limit, used) = (number(&read(limit)?)?, number(&read(used)?)?);
    // Contents of files that nobody reads any more count as used, and make room.
    let statistics = read("memory.stat").unwrap_or_default();
    let mut lines = statistics.lines();
    let unneeded = lines.find_map(|line| number(line.strip_prefix(unneeded)?));
    Some(limit.saturating_sub(used.saturating_sub(unneeded.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_found_among_the_other_lines() {
        let lines = "MemTotal:  9000 kB\nMemFree:  10 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(bytes(lines, "MemAvailable:"), Some(2 << 20));
        assert_eq!(bytes("MemTotal:  9000 kB\n", "MemAvailable:"), None);
    }

    #[test]
    fn a_limited_address_space_leaves_what_it_does_not_hold() {
        let limits = |soft: &str| {
            format!(
                "Limit            Soft Limit  Hard Limit  Units\nMax data size     7  8  bytes\n\
                 Max address space     {soft}       unlimited            bytes\n"
            )
        };
        let status = "VmPeak:\t  9 kB\nVmSize:\t  2 kB\n";
        assert_eq!(of_process(&limits("3000"), status), Some(952));
        assert_eq!(of_process(&limits("1000"), status), Some(0));
        assert_eq!(of_process(&limits("unlimited"), status), None);
    }

    #[test]
    fn the_narrowest_control_group_counts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |group: &str, files: [(&str, &str); 3]| {
            let group = folder.path().join(group);
            fs::create_dir_all(&group).unwrap();
            for (name, text) in files {
                fs::write(group.join(name), text).unwrap();
            }
        };
        let of = |groups: &str| of_groups(groups, folder.path());
        assert_eq!(of("0::/job/task\n"), None);
        let second = |limit, used| {
            [
                ("memory.max", limit),
                ("memory.current", used),
                (
                    "memory.stat",
                    "anon 500\nactive_file 7\ninactive_file 200\n",
                ),
            ]
        };
        write("job/task", second("max\n", "700\n"));
        assert_eq!(of("0::/job/task\n"), None);
        write("job", second("1000\n", "700\n"));
        assert_eq!(of("0::/job/task\n"), Some(500));
        write("job/task", second("600\n", "700\n"));
        assert_eq!(of("0::/job/task\n"), Some(100));
        assert_eq!(of("0::/other\n"), None);
        let first = [
            ("memory.limit_in_bytes", "90\n"),
            ("memory.usage_in_bytes", "50\n"),
            ("memory.stat", "inactive_file 1\ntotal_inactive_file 5\n"),
        ];
        write("memory", first);
        // In a container its own group is the outermost one.
        let groups = "3:cpu,cpuacct:/a\n2:hugetlb,memory:/outside\n0::/job\n";
        assert_eq!(of(groups), Some(45));
        assert_eq!(of("3:cpu:/\n"), None);
    }
}
