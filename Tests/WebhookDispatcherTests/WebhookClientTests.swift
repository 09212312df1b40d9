import Foundation
import Metering
import MeteringTestKit
import Testing
import WebhookDelivery
import WebhookDispatcher

@Suite struct WebhookClientTests {
  static let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

  /// Gives its answers one after the other, and then repeats the last one.
  final class ScriptedResolver: NameResolver, @unchecked Sendable {
    // This is guarded by the lock.
    private let lock = NSLock()
    private var answers: [[String]]
    private var count = 0

    init(_ answers: [[String]]) { self.answers = answers }

    var asked: Int { lock.withLock { count } }

    func addresses(of host: String) async throws -> [IPAddress] {
      let answer = lock.withLock {
        count += 1
        return answers.count > 1 ? answers.removeFirst() : answers[0]
      }
      if answer.isEmpty { throw ResolutionFailure(description: "no such name") }
      return answer.compactMap { IPAddress($0) }
    }
  }

  struct Fixture {
    let server: HookServer
    let client: WebhookClient
    let sealed: [UInt8]
    let secret: SigningSecret

    init(
      resolver: any NameResolver = SystemResolver(), allow: String = "127.0.0.1/32",
      timeoutMilliseconds: Int = 1_000
    ) throws {
      server = try HookServer()
      let box = try SecretBox(base64Key: WebhookClientTests.key)
      secret = try SigningSecret(scheme: .v1, bytes: Array(0..<32))
      sealed = try box.seal(secret, endpoint: "ep", nonce: Array(0..<12))
      var settings = WebhookClient.Settings()
      settings.policy = try TargetAddressPolicy(cidrs: allow)
      settings.allowsHTTP = true
      settings.timeoutMilliseconds = timeoutMilliseconds
      client = WebhookClient(settings: settings, box: box, resolver: resolver)
    }

    func attempt(_ url: String, retryStep: Int = 0) async -> Attempt {
      await client.attempt(
        WebhookMessage(
          endpoint: "ep", webhookID: "msg_1", url: url, sealedSecrets: [sealed],
          body: Array(#"{"a":1}"#.utf8), retryStep: retryStep))
    }

    func end() async {
      server.end()
      await client.close()
    }
  }

  @Test("A success carries the specification's headers, and is signed")
  func success() async throws {
    let fixture = try Fixture()
    let attempt = await fixture.attempt(fixture.server.url("/ok?a=b"))
    #expect(attempt.failure == nil && attempt.statusCode == 200, "\(attempt)")
    #expect(String(decoding: attempt.response, as: UTF8.self) == "ok")
    let got = try #require(fixture.server.received.first)
    let timestamp = try #require(got.headers["webhook-timestamp"].flatMap { Int64($0) })
    #expect(got.path == "/ok?a=b" && got.body == #"{"a":1}"# && got.id == "msg_1")
    #expect(got.headers["content-type"] == "application/json")
    #expect(
      got.headers["webhook-signature"]
        == WebhookSignature.header(
          id: "msg_1", timestampSeconds: timestamp, body: Array(got.body.utf8),
          secrets: [fixture.secret]))
    await fixture.end()
  }

  @Test(
    "Each wrong answer of an endpoint is a failure with its own name, within the time limit",
    arguments: [
      ("/fail", Attempt.Failure.status, 500), ("/gone", .status, 410), ("/later", .status, 429),
      ("/redirect", .status, 302), ("/hang", .timeout, nil), ("/close", .closed, nil),
      ("/half", .closed, nil), ("/garbage", .protocolError, nil), ("/headers", .protocolError, nil),
      ("/trickle", .timeout, 500),
    ] as [(String, Attempt.Failure, Int?)])
  func failures(_ path: String, _ failure: Attempt.Failure, _ status: Int?) async throws {
    let fixture = try Fixture()
    let began = Date()
    let attempt = await fixture.attempt(fixture.server.url(path))
    #expect(attempt.failure == failure, "\(attempt.error ?? "success")")
    #expect(attempt.statusCode == status)
    #expect(attempt.response.count <= 1_024)
    #expect(Date().timeIntervalSince(began) < 4)
    #expect(attempt.retryAfterMilliseconds == (path == "/later" ? 120_000 : nil))
    #expect(!fixture.server.received.contains { $0.path == "/target" })
    await fixture.end()
  }

  @Test(
    "No answer ends the process: each of dozens of malformed ones is an attempt with an outcome",
    arguments: HostileAnswers.all.indices)
  func hostile(_ number: Int) async throws {
    let fixture = try Fixture(timeoutMilliseconds: 3_000)
    let answer = HostileAnswers.all[number]
    let attempt = await fixture.attempt(fixture.server.url("/hostile/\(number)"))
    #expect(attempt.statusCode == answer.status, "\(answer.name): \(attempt)")
    let isSuccess = answer.status.map { (200..<300).contains($0) } ?? false
    #expect((attempt.failure == nil) == isSuccess, "\(answer.name): \(attempt)")
    #expect(attempt.response.count <= 1_024)
    await fixture.end()
  }

  @Test("A URL's path and query are sent as they were accepted, byte for byte")
  func bytesOfURLs() async throws {
    let fixture = try Fixture()
    for path in ["/x?sig=a%2Fb%3D&q=100%", "/a%20b/%e2%82%ac?%zz", "/a//b/../c;d=[1]?x=y?z&&="] {
      let attempt = await fixture.attempt(fixture.server.url(path))
      #expect(attempt.failure == nil, "\(attempt)")
      #expect(fixture.server.received.last?.path == path)
    }
    await fixture.end()
  }

  @Test(
    "A connection is used again, and one that the receiver has closed is simply replaced")
  func reuse() async throws {
    let fixture = try Fixture(timeoutMilliseconds: 10_000)
    for _ in 0..<20 {
      #expect(await fixture.attempt(fixture.server.url("/ok")).failure == nil)
    }
    #expect(fixture.server.connectionsMade == 1)
    fixture.server.dropConnections()
    for _ in 0..<3 {
      let attempt = await fixture.attempt(fixture.server.url("/ok"))
      #expect(attempt.failure == nil, "\(attempt)")
    }
    await fixture.end()
  }

  @Test("Errors are whole sentences in plain words, without addresses or names of functions")
  func wording() async throws {
    let fixture = try Fixture(resolver: ScriptedResolver([["10.1.2.3"]]))
    func error(_ url: String) async -> String { await fixture.attempt(url).error ?? "" }
    #expect(
      await error("http://127.0.0.1:\(try FreePort.next())/")
        == "connect: the connection was refused")
    #expect(
      await error("http://hooks.example.com/")
        == "refused_address: the name has an IPv4 address that is refused: private")
    #expect(
      await error(fixture.server.url("/close"))
        == "closed: the connection was closed before the answer")
    #expect(await error(fixture.server.url("/garbage")) == "protocol: the answer is not HTTP/1")
    await fixture.end()
  }

  @Test("An endless answer is dropped after 16 KiB, and is a success if its status was one")
  func bomb() async throws {
    let fixture = try Fixture(timeoutMilliseconds: 10_000)
    let attempt = await fixture.attempt(fixture.server.url("/bomb"))
    #expect(attempt.failure == nil && attempt.response.count == 1_024, "\(attempt)")
    #expect(attempt.durationMilliseconds < 5_000)
    await fixture.end()
  }

  @Test("A refused connection is a failure like any other")
  func refusedConnection() async throws {
    let fixture = try Fixture()
    let attempt = await fixture.attempt("http://127.0.0.1:\(try FreePort.next())/")
    #expect(attempt.failure == .connect, "\(attempt)")
    await fixture.end()
  }

  @Test(
    "No connection is made to a name with a private address, even if it has public ones too")
  func privateAnswers() async throws {
    for answer in [
      ["10.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["127.0.0.1", "::1"], ["169.254.169.254"],
    ] {
      let fixture = try Fixture(resolver: ScriptedResolver([answer]))
      let attempt = await fixture.attempt("http://hooks.example.com:\(fixture.server.port)/")
      #expect(attempt.failure == .address, "\(answer): \(attempt)")
      #expect(fixture.server.received.isEmpty)
      await fixture.end()
    }
  }

  @Test("The connection goes to the checked address, even if the name has another by then")
  func rebinding() async throws {
    // No resolver knows this name, so resolving it again for the connection would fail.
    let resolver = ScriptedResolver([["127.0.0.1"], ["10.0.0.1"]])
    let fixture = try Fixture(resolver: resolver)
    let url = "http://rebinding.invalid:\(fixture.server.port)/ok"
    let first = await fixture.attempt(url)
    #expect(first.failure == nil, "\(first)")
    #expect(resolver.asked == 1)
    #expect(
      fixture.server.received.first?.headers["host"] == "rebinding.invalid:\(fixture.server.port)")
    let second = await fixture.attempt(url)
    #expect(second.failure == .address, "\(second)")
    #expect(fixture.server.received.count == 1)
    await fixture.end()
  }

  @Test("Each retry tries the next of a name's addresses")
  func rotation() async throws {
    let fixture = try Fixture(
      resolver: ScriptedResolver([["127.0.0.2", "127.0.0.1"]]), allow: "127.0.0.0/8")
    let url = "http://many.invalid:\(fixture.server.port)/ok"
    #expect(await fixture.attempt(url).failure == .connect)
    #expect(await fixture.attempt(url, retryStep: 1).failure == nil)
    await fixture.end()
  }

  @Test(
    "A name that does not resolve, a URL that is refused and a secret that does not open are failures"
  )
  func noRequest() async throws {
    let fixture = try Fixture(resolver: ScriptedResolver([[]]))
    #expect(await fixture.attempt("http://nowhere.invalid/").failure == .dns)
    #expect(await fixture.attempt("http://127.1/").failure == .url)
    #expect(await fixture.attempt("http://10.0.0.1/").failure == .address)
    let attempt = await fixture.client.attempt(
      WebhookMessage(
        endpoint: "another", webhookID: "m", url: fixture.server.url("/ok"),
        sealedSecrets: [fixture.sealed], body: [], retryStep: 0))
    #expect(attempt.failure == .secret)
    #expect(fixture.server.received.isEmpty)
    await fixture.end()
  }
}
