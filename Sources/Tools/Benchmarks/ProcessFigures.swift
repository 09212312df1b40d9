import Foundation

/// Figures of other processes from /proc.
enum ProcessFigures {
  private static func stat(_ pid: Int32) -> [Substring] {
    guard let text = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8),
      let end = text.lastIndex(of: ")")
    else { return [] }
    return text[text.index(after: end)...].split(separator: " ")
  }

  static func cpuSeconds(of pid: Int32) -> Double {
    let fields = stat(pid)
    guard fields.count > 14 else { return 0 }
    return Double((Int(fields[11]) ?? 0) + (Int(fields[12]) ?? 0))
      / Double(sysconf(Int32(_SC_CLK_TCK)))
  }

  /// The CPU time of the process, its ended children and its running children.
  static func cpuSeconds(ofTree pid: Int32) -> Double {
    let fields = stat(pid)
    guard fields.count > 14 else { return 0 }
    var total = cpuSeconds(of: pid)
    total +=
      Double((Int(fields[13]) ?? 0) + (Int(fields[14]) ?? 0)) / Double(sysconf(Int32(_SC_CLK_TCK)))
    for name in (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? [] {
      guard let child = Int32(name), stat(child).dropFirst().first.flatMap({ Int32($0) }) == pid
      else { continue }
      total += cpuSeconds(of: child)
    }
    return total
  }

  static func status(_ pid: Int32, _ field: String) -> Int {
    let text = (try? String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)) ?? ""
    let line = text.split(separator: "\n").first { $0.hasPrefix(field + ":") }
    return line.flatMap { $0.split { !$0.isNumber }.first }.flatMap { Int($0) } ?? 0
  }
}
