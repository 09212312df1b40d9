import DomainNames
import FoundationEssentials
import Glibc
import JSONText
import LicenseClient
import Licensing
import Synchronization

/// Lets the conformance runner test this SDK. Each line in and each line out is a JSON object.
@main
struct Driver {
  static func main() async throws {
    let driver = try Driver()
    while let line = readLine() {
      let answer = await driver.answer(try Question(line))
      try write(answer + [UInt8(ascii: "\n")])
    }
  }

  /// Bypasses the buffer of standard output, which would keep the answer from the pipe.
  private static func write(_ bytes: [UInt8]) throws {
    var rest = bytes[...]
    while !rest.isEmpty {
      let written = rest.withUnsafeBytes { Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
      guard written > 0 else { throw Failure(description: "the runner does not listen") }
      rest = rest.dropFirst(written)
    }
  }

  struct Failure: Error, CustomStringConvertible { let description: String }

  private struct State {
    var client: LicenseClient?
    var offset: Int64 = 0
    var problems: [String] = []
  }

  let rules: PublicSuffixList
  private let state = SharedState()

  /// The driver makes its own answers one at a time. The client's clock and problems come from any
  /// thread.
  private final class SharedState: Sendable {
    let value = Mutex(State())
  }

  init() throws {
    guard let rules = PublicSuffixList.shared else {
      throw Failure(description: "no list of public suffixes")
    }
    self.rules = rules
  }

  private func answer(_ question: Question) async -> [UInt8] {
    switch question.text("op") {
    case "hello":
      return JSON.object {
        $0.member("idna", true)
        $0.member("closesAtExit", false)
        $0.member("frameworks", ["hummingbird"])
      }
    case "keyset": return keySet(question)
    case "license": return license(question)
    case "verdict": return verdict(question)
    case "domain": return domain(question)
    case "covers": return covers(question)
    case "offline": return offline(question)
    case "middleware": return await MiddlewareTrial.run(question)
    case "open": return open(question)
    case "clock":
      state.value.withLock { $0.offset = question.integer("offset") ?? 0 }
      return JSON.empty
    case "problems":
      let problems = state.value.withLock { state in
        defer { state.problems = [] }
        return state.problems
      }
      return JSON.object { $0.member("problems", problems) }
    default: return await clientAnswer(question)
    }
  }

  private func clientAnswer(_ question: Question) async -> [UInt8] {
    guard let client = state.value.withLock(\.client) else {
      return JSON.object { $0.member("error", "no client is open") }
    }
    let domain = question.text("domain")
    let limit = Duration.seconds(question.decimal("timeout") ?? 5)
    switch question.text("op") {
    case "validate":
      guard let key = question.optional("licenseKey") else {
        return JSON.result(await client.validate(domain))
      }
      return JSON.result(await client.validate(domain, licenseKey: key))
    case "validateOffline":
      return JSON.result(
        client.validateOffline(domain, licenseKey: question.optional("licenseKey")))
    case "validateMany":
      return await validateMany(client, domain, Int(question.integer("count") ?? 1))
    case "record":
      let (meter, quantity) = (question.text("meter"), question.integer("quantity") ?? 1)
      let accepted = (0..<(question.integer("count") ?? 1)).filter { _ in
        client.record(meter, quantity)
      }
      return JSON.object { $0.member("accepted", Int64(accepted.count)) }
    case "flush":
      let isFlushed = await client.flush(within: limit)
      return JSON.statistics(client.usageStatistics, isFlushed: isFlushed)
    case "close":
      await client.close(within: limit)
      return JSON.statistics(client.usageStatistics)
    case "statistics": return JSON.statistics(client.usageStatistics)
    default: return JSON.object { $0.member("error", "unknown op") }
    }
  }

  private func validateMany(_ client: LicenseClient, _ domain: String, _ count: Int) async
    -> [UInt8]
  {
    let results = await withTaskGroup(of: LicenseResult.self) { group in
      for _ in 0..<count { group.addTask { await client.validate(domain) } }
      return await group.reduce(into: []) { $0.append($1) }
    }
    return JSON.object { json in
      json.name("results")
      json.beginArray()
      for result in results { json.raw(JSON.result(result)) }
      json.endArray()
    }
  }

  private func open(_ question: Question) -> [UInt8] {
    do {
      let options = try options(question.object("options"))
      let client = try LicenseClient(options)
      state.value.withLock { state in
        state.client = client
        state.offset = 0
        state.problems = []
      }
      return JSON.empty
    } catch {
      return JSON.object { $0.member("error", "\(error)") }
    }
  }

  private func options(_ given: Question) throws -> LicenseClientOptions {
    var options = LicenseClientOptions(
      url: given.text("url"), licenseKey: given.text("licenseKey"))
    options.token = given.optional("token")
    options.keys = try given.optional("keys").map { try JSONWebKeySet(json: $0.utf8) }
    options.pins = given.texts("pins")
    options.caFile = given.optional("caFile")
    options.cacheDirectory = given.optional("cacheDir")
    if let mode = given.optional("pinMode") {
      guard let known = LicenseClientOptions.PinMode(rawValue: mode) else {
        throw Failure(description: "pinMode")
      }
      options.pinMode = known
    }
    if let choice = given.optional("onUnknown") {
      guard let known = LicenseClientOptions.Unknown(rawValue: choice) else {
        throw Failure(description: "onUnknown")
      }
      options.onUnknown = known
    }
    options.offlineFallback = given.boolean("offlineFallback")
    let durations: [(String, WritableKeyPath<LicenseClientOptions, Duration>)] = [
      ("freshFor", \.freshFor), ("graceFor", \.graceFor), ("connectTimeout", \.connectTimeout),
      ("totalTimeout", \.totalTimeout), ("pauseAfterFailure", \.pauseAfterFailure),
    ]
    for (name, path) in durations {
      if let seconds = given.decimal(name) { options[keyPath: path] = .seconds(seconds) }
    }
    if let maximum = given.integer("maxUsageQueue") { options.maximumUsageQueue = Int(maximum) }
    options.clock = { [state] in
      Int64(Date().timeIntervalSince1970 * 1_000) + state.value.withLock(\.offset)
    }
    options.onProblem = { [state] problem in state.value.withLock { $0.problems.append(problem) } }
    return options
  }
}
