import ArgumentParser
import Foundation
import MeteringTestKit

/// Debian's wrk. It asks over and over, and takes so little of the processors that the server gets
/// nearly all of them.
enum Wrk {
  struct Figures {
    var requests: Int
    /// Requests that got no answer, or one with a status from 400 on.
    var failed: Int
    var requestsPerSecond: Double
    /// Milliseconds.
    var p50: Double
    /// Milliseconds.
    var p99: Double
  }

  /// - Parameter script: the Lua code that says what is asked.
  static func run(
    url: String, script: String, connections: Int, seconds: Int
  ) throws -> Figures {
    let path = NSTemporaryDirectory() + "wrk-\(UUID().uuidString).lua"
    try (script + Self.summary).write(toFile: path, atomically: true, encoding: .utf8)
    defer { try? FileManager.default.removeItem(atPath: path) }  // The system clears it too.
    let process = try ChildProcess(
      "/usr/bin/wrk",
      ["-t1", "-c\(connections)", "-d\(seconds)s", "--timeout", "60s", "-s", path, url])
    process.wait()
    let line = process.output.split(separator: "\n").last { $0.hasPrefix("figures ") }
    let numbers = line?.split(separator: " ").dropFirst().compactMap { Double($0) } ?? []
    guard numbers.count == 5, numbers[0] > 0, numbers[1] > 0 else {
      throw ValidationError("wrk (Debian's) said:\n\(process.output)")
    }
    return Figures(
      requests: Int(numbers[0]), failed: Int(numbers[4]),
      requestsPerSecond: numbers[0] / (numbers[1] / 1e6), p50: numbers[2] / 1e3,
      p99: numbers[3] / 1e3)
  }

  /// Requests, microseconds of the run, p50 and p99 in microseconds, and failures.
  private static let summary = """

    done = function(summary, latency)
      local e = summary.errors
      print(string.format("figures %d %d %d %d %d", summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99),
        e.connect + e.read + e.write + e.status + e.timeout))
    end
    """
}
