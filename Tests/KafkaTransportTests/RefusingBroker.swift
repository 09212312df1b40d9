import Foundation
import MeteringTestKit

/// A broker that speaks just enough of Kafka's protocol to refuse a password. As Kafka does, it
/// offers PLAIN and answers SaslAuthenticate with error 58. librdkafka's mock cluster has no SASL.
final class RefusingBroker: Sendable {
  let port: Int
  private let listener: Int32

  init() throws {
    (listener, port) = try TCP.listen()
    let listener = listener
    Thread {
      while let client = TCP.accept(listener) {
        Thread { Self.serve(client) }.start()
      }
      close(listener)
    }.start()
  }

  /// The thread closes the descriptor, so that it cannot be reused while the thread still accepts.
  deinit { shutdown(listener, Int32(SHUT_RDWR)) }

  private static func serve(_ client: Int32) {
    defer { close(client) }
    var bytes: [UInt8] = []
    while true {
      while bytes.count >= 4 {
        let size = Int(number(bytes[0..<4]))
        guard bytes.count >= 4 + size else { break }
        let answer = answer(Array(bytes[4..<4 + size]))
        bytes.removeFirst(4 + size)
        guard TCP.write(client, big(Int32(answer.count)) + answer) else { return }
      }
      guard let more = TCP.read(client, atMost: 4_096) else { return }
      bytes += more
    }
  }

  /// The header has the API key, the version and the correlation id.
  private static func answer(_ request: [UInt8]) -> [UInt8] {
    let key = number(request[0..<2])
    let version = number(request[2..<4])
    let correlation = Array(request[4..<8])
    switch key {
    case 18:
      // In the answer to ApiVersions, error 35 makes the client ask again with version 0.
      let keys: [(Int16, Int16)] = [(3, 4), (17, 1), (18, 0), (36, 0)]
      let list = keys.flatMap { big($0.0) + big(Int16(0)) + big($0.1) }
      return correlation + big(Int16(version == 0 ? 0 : 35)) + big(Int32(keys.count)) + list
    case 17: return correlation + big(Int16(0)) + big(Int32(1)) + text("PLAIN")
    default:
      return correlation + big(Int16(58))
        + text("Authentication failed: Invalid username or password") + big(Int32(0))
    }
  }

  private static func number(_ bytes: ArraySlice<UInt8>) -> Int {
    bytes.reduce(0) { $0 << 8 | Int($1) }
  }

  private static func big(_ value: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: value.bigEndian) { Array($0) }
  }

  private static func text(_ value: String) -> [UInt8] {
    big(Int16(value.utf8.count)) + Array(value.utf8)
  }
}

/// `openssl s_server` with a certificate that it signed itself.
final class TLSServer {
  let port: Int
  private let process: ChildProcess
  private let folder: URL

  init() throws {
    folder = FileManager.default.temporaryDirectory.appending(path: "tls-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let (key, certificate) = (folder.path + "/key.pem", folder.path + "/cert.pem")
    try Command.run([
      "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
      "-days", "2", "-subj", "/CN=localhost", "-keyout", key, "-out", certificate,
    ])
    port = try FreePort.next()
    let port = port
    process = try ChildProcess(
      "/usr/bin/openssl",
      ["s_server", "-accept", "127.0.0.1:\(port)", "-key", key, "-cert", certificate, "-www"])
    try eventually("the TLS server listens") {
      guard let descriptor = TCP.connect(port: port) else { return false }
      close(descriptor)
      return true
    }
  }

  deinit {
    // If the folder stays in the temporary directory, that harms nobody.
    try? FileManager.default.removeItem(at: folder)
  }
}
