import ArgumentParser
import AsyncHTTPClient
import Foundation
import NIOCore
import NIOHTTP1

/// Measures reads of a running metering-api, and the bare SQL of the same questions through
/// pgbench, in one run.
struct Query: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measures reads of metering-api beside the same SQL through pgbench.",
    discussion: """
      `Benchmarks storage --database URL` fills the database; metering-api runs on it. Each question
      is asked by wrk with --clients connections for --seconds, each time of another license or
      customer. Of the first two the SQL is run by pgbench as well, with as many clients, before and
      after the API.
      With all licenses most reads are first ones, from the disk; --licenses 200 --customers 20 asks
      for what is in memory after the first seconds.
      """)

  @Option(help: "The database that `Benchmarks storage` filled.") var database: String
  @Option(help: "The address of metering-api.") var api = "http://127.0.0.1:8081"
  @Option(help: "A token that has every scope.") var token: String
  @Option(help: "From how many of the filled licenses it chooses.") var licenses = 100_000
  @Option(help: "From how many of the filled customers it chooses.") var customers = 1_000
  @Option(help: "How many seconds each measurement takes.") var seconds = 8
  @Option(help: "The number of readers at the same time.") var clients = 2
  @Option(help: "The process id of metering-api, whose memory is measured then.") var pid: Int32?
  @Option(help: "About how many rows the CSV has. With 0 there is no CSV.") var csvRows = 1_000_000
  @Flag(help: "Measure without pgbench.") var apiOnly = false
  @Option(
    help: "Close the periods that ended before this day, such as 2026-11-01. It cannot be undone.")
  var close: String?

  /// A read, with its SQL if it is compared.
  private struct Read {
    var name: String
    var target: Double
    /// A Lua expression for the path. It may use the functions `license` and `customer`.
    var path: String
    var sql: String?
    var isPage = false
  }

  /// It asks for no compression, so it need not guess how large an answer may become.
  private static let client = HTTPClient(
    eventLoopGroup: HTTPClient.defaultEventLoopGroup,
    configuration: HTTPClient.Configuration(redirectConfiguration: .disallow))

  func run() async throws {
    do {
      try await measureAll()
    } catch {
      // The first error is the one to report.
      try? await Self.client.shutdown()
      throw error
    }
    try await Self.client.shutdown()
  }

  private func measureAll() async throws {
    let cookie = try await signIn()
    print("\(clients) clients, \(seconds) s each; milliseconds")
    for read in reads {
      let sql = apiOnly ? nil : read.sql
      let bare = try sql.map { try pgbench($0) }
      let load = try measure(read, cookie: cookie)
      let after = try sql.map { try pgbench($0) }
      var line = "\(read.name): p50 \(Self.rounded(load.p50)), p99 \(Self.rounded(load.p99)) "
      line += "(target \(Self.rounded(read.target))), "
      line += "\(Self.rounded(load.requestsPerSecond)) requests/s"
      if let bare, let after {
        let mean = (bare + after) / 2
        line +=
          ", SQL alone \(Self.rounded(mean))/s, ratio \(Self.rounded(load.requestsPerSecond / mean))"
      }
      print(line)
    }
    if csvRows > 0 { try await csv() }
    if let close { try await closePeriods(before: close) }
  }

  // MARK: The questions

  private var reads: [Read] {
    [
      Read(
        name: "a license's month by hour", target: 20,
        path: "'/v1/usage?range=this_month&window=hour&limit=1000&license_id=' .. license()",
        sql: licenseSQL),
      Read(
        name: "a customer's month by day", target: 50,
        path: "'/v1/usage?range=this_month&window=day&limit=10000&customer_id=' .. customer()",
        sql: customerSQL),
      Read(
        name: "all customers' month, top 100", target: 300,
        path: "'/v1/usage?range=this_month&group_by=customer,meter&top=100'"),
      Read(name: "overview page", target: 200, path: "'/'", isPage: true),
      Read(
        name: "license page", target: 100, path: "'/licenses/' .. license()", isPage: true),
      Read(
        name: "period list", target: 50,
        path: "'/v1/periods?limit=100&customer_id=' .. customer()"),
      Read(name: "period list of all", target: 50, path: "'/v1/periods?limit=100'"),
    ]
  }

  private var licenseSQL: String {
    """
    \\set n random(0, \(licenses - 1))
    select license_id, meter, hour, sum(quantity), sum(event_count) from (
      select license_id, meter, hour, quantity, event_count from usage_hour
      where license_id = 'lic_' || lpad(:n::text, 8, '0')
        and hour >= date_trunc('month', now())
        and hour < date_trunc('month', now()) + interval '1 month'
      union all
      select license_id, meter, hour, quantity, event_count from usage_waiting
      where license_id = 'lic_' || lpad(:n::text, 8, '0')) u
    group by 1, 2, 3 order by 1, 2, 3;
    """
  }

  private var customerSQL: String {
    """
    \\set n random(0, \(customers - 1))
    select u.license_id, u.meter, u.day, sum(u.quantity), sum(u.event_count)
    from (select license_id from license where customer_id = 'cus_' || :n) l
    join lateral (
      select license_id, meter, day, quantity, event_count from usage_day d
      where d.license_id = l.license_id and day >= date_trunc('month', now())::date
      union all
      select license_id, meter, (hour at time zone 'UTC')::date, quantity, event_count
      from usage_waiting p where p.license_id = l.license_id) u on true
    group by 1, 2, 3 order by 1, 2, 3;
    """
  }

  /// The transactions per second. It runs for about as many seconds as the API is asked.
  private func pgbench(_ sql: String) throws -> Double {
    // The run has a number of transactions and not a time, because the signal that would end it is
    // blocked in a child.
    let short = try pgbench(sql, transactions: 10)
    let wanted = Int(short * Double(seconds)) / clients
    return try pgbench(sql, transactions: min(max(wanted, 10), 100_000))
  }

  private func pgbench(_ sql: String, transactions: Int) throws -> Double {
    let script = NSTemporaryDirectory() + "query-\(UUID().uuidString).sql"
    try sql.replacing("\n", with: " ").replacing("1); ", with: "1)\n")
      .replacing(") select", with: ")\nselect")
      .write(toFile: script, atomically: true, encoding: .utf8)
    defer { try? FileManager.default.removeItem(atPath: script) }  // The system clears it too.
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [
      "pgbench", "-n", "-M", "prepared", "-c", String(clients), "-j", "1",
      "-t", String(transactions), "-f", script, database,
    ]
    let output = Pipe()
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    let line = text.split(separator: "\n").first { $0.hasPrefix("tps = ") }
    guard let tps = line?.split(separator: " ").dropFirst(2).first.flatMap({ Double($0) }) else {
      throw ValidationError("pgbench said: \(text)")
    }
    return tps
  }

  // MARK: The API

  private func request(_ path: String, cookie: String? = nil) -> HTTPClientRequest {
    var request = HTTPClientRequest(url: api + path)
    if let cookie {
      request.headers.add(name: "cookie", value: cookie)
    } else {
      request.headers.add(name: "authorization", value: "Bearer \(token)")
    }
    return request
  }

  private func signIn() async throws -> String {
    var request = HTTPClientRequest(url: api + "/sign-in")
    request.method = .POST
    request.headers.add(name: "content-type", value: "application/x-www-form-urlencoded")
    request.body = .bytes(ByteBuffer(string: "token=\(token)"))
    let answer = try await Self.client.execute(request, timeout: .seconds(30))
    guard let cookie = answer.headers.first(name: "set-cookie")?.split(separator: ";").first else {
      throw ValidationError("the token does not sign in: \(answer.status)")
    }
    return String(cookie)
  }

  private func measure(_ read: Read, cookie: String) throws -> Wrk.Figures {
    let header =
      read.isPage ? "['Cookie'] = '\(cookie)'" : "['Authorization'] = 'Bearer \(token)'"
    let figures = try Wrk.run(
      url: api,
      script: """
        math.randomseed(\(Int.random(in: 0..<1_000_000_000)))
        local headers = { \(header) }
        local function license() return string.format('lic_%08d', math.random(0, \(licenses - 1))) end
        local function customer() return 'cus_' .. math.random(0, \(customers - 1)) end
        request = function() return wrk.format('GET', \(read.path), headers) end
        """, connections: clients, seconds: seconds)
    if figures.failed > 0 {
      note("\(read.name): \(figures.failed) of \(figures.requests) requests failed")
    }
    return figures
  }

  private func csv() async throws {
    // These are whole hours of yesterday, for which each license has a row.
    let day = Date().timeIntervalSince1970 / 86_400
    let from = Date(timeIntervalSince1970: (day.rounded(.down) - 1) * 86_400)
    let to = from + Double(3_600 * min(max(csvRows / licenses, 1), 24))
    let path =
      "/v1/usage?window=hour&format=csv&from=\(from.ISO8601Format())&to=\(to.ISO8601Format())"
    let began = ContinuousClock.now
    let answer = try await Self.client.execute(request(path), timeout: .seconds(600))
    guard answer.status == .ok else { throw ValidationError("CSV: \(answer.status)") }
    var (lines, bytes) = (0, 0)
    for try await part in answer.body {
      bytes += part.readableBytes
      lines += part.readableBytesView.count { $0 == UInt8(ascii: "\n") }
    }
    let taken = (ContinuousClock.now - began) / .seconds(1)
    var line = "CSV of \(lines - 1) rows: \(Self.rounded(taken)) s, \(bytes / 1_000_000) MB"
    if let pid {
      line += "; the process took at most \(ProcessFigures.status(pid, "VmHWM") / 1_024) MiB"
    }
    print(line)
  }

  private func closePeriods(before day: String) async throws {
    var request = request("/v1/periods/close")
    request.method = .POST
    request.headers.add(name: "content-type", value: "application/json")
    request.body = .bytes(
      ByteBuffer(
        string: #"{"ending_before":"\#(day)","force":true,"reason":"a benchmark"}"#))
    let began = ContinuousClock.now
    let answer = try await Self.client.execute(request, timeout: .seconds(600))
    let body = try await answer.body.collect(upTo: 1 << 20)
    let taken = (ContinuousClock.now - began) / .seconds(1)
    print("close: \(Self.rounded(taken)) s, \(answer.status.code) \(String(buffer: body))")
  }

  private static func rounded(_ value: Double) -> Double { (value * 100).rounded() / 100 }
}
