import Foundation

/// The process's own numbers, under the names that Prometheus clients agree on
/// (https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics).
package struct ProcessMetrics {
  /// Registers `process_resident_memory_bytes`, `process_cpu_seconds_total`,
  /// `process_start_time_seconds` and `process_open_fds`. They are read from `/proc` at every
  /// scrape, and a number that cannot be read keeps its last value. Without `/proc` none of these
  /// is registered. It also registers `meter_build_info`, which every program has.
  package static func register(on registry: MetricsRegistry) {
    BuildInfo.register(on: registry)
    guard let first = ProcessStat.read() else { return }
    let memory = registry.gauge(
      "process_resident_memory_bytes", help: "Resident memory size in bytes.")
    let cpu = registry.copiedCounter(
      "process_cpu_seconds_total", help: "Total user and system CPU time spent in seconds.")
    let start = registry.gauge(
      "process_start_time_seconds", help: "Start time of the process since unix epoch in seconds.")
    let files = registry.gauge("process_open_fds", help: "Number of open file descriptors.")
    if let boot = ProcessStat.bootTimeSeconds() {
      start.set(boot + first.startSecondsAfterBoot)
    }
    registry.onScrape {
      if let stat = ProcessStat.read() {
        memory.set(stat.residentBytes)
        cpu.set(stat.cpuSeconds)
      }
      if let count = openDescriptors() { files.set(count) }
    }
  }

  /// The number of file descriptors that the process has open; nil without `/proc`.
  static func openDescriptors() -> Int? { ProcessStat.openFiles() }
}

/// The contents of `/proc/self/stat`. The field numbers are those of proc(5).
private struct ProcessStat {
  let residentBytes: Int
  let cpuSeconds: Double
  let startSecondsAfterBoot: Double

  static func read() -> ProcessStat? {
    guard case .success(let bytes) = BoundedFile.read("/proc/self/stat", maximumBytes: 4_096),
      // Field 2, the command, may contain spaces and parentheses, so fields are counted from the
      // last one.
      let end = bytes.lastIndex(of: UInt8(ascii: ")"))
    else { return nil }
    let fields = bytes[(end + 1)...].split(separator: UInt8(ascii: " ")).map {
      Int(String(decoding: $0, as: UTF8.self))
    }
    func field(_ number: Int) -> Int? {
      fields.indices.contains(number - 3) ? fields[number - 3] : nil
    }
    let ticksPerSecond = Double(sysconf(Int32(_SC_CLK_TCK)))
    guard let user = field(14), let system = field(15), let start = field(22),
      let pages = field(24), ticksPerSecond > 0
    else { return nil }
    return ProcessStat(
      residentBytes: pages * sysconf(Int32(_SC_PAGESIZE)),
      cpuSeconds: Double(user + system) / ticksPerSecond,
      startSecondsAfterBoot: Double(start) / ticksPerSecond)
  }

  static func bootTimeSeconds() -> Double? {
    // The line of interrupt counts before "btime" grows with the machine.
    guard case .success(let bytes) = BoundedFile.read("/proc/stat", maximumBytes: 1 << 20) else {
      return nil
    }
    let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
    return lines.first { $0.hasPrefix("btime ") }.flatMap { Double($0.dropFirst(6)) }
  }

  static func openFiles() -> Int? {
    guard let directory = opendir("/proc/self/fd") else { return nil }
    defer { closedir(directory) }
    var count = 0
    while readdir(directory) != nil { count += 1 }
    // Without ".", ".." and the descriptor of this listing.
    return max(0, count - 3)
  }
}
