import MeteringTestKit
import Testing
import WebhookDelivery

@Suite struct HTTPAnswerReaderTests {
  private static func read(
    _ bytes: [UInt8], step: Int = .max
  ) throws(HTTPAnswerReader.Malformed) -> (HTTPAnswerReader, HTTPAnswerReader.Progress) {
    var reader = HTTPAnswerReader()
    var progress = HTTPAnswerReader.Progress.unfinished
    var at = 0
    while at < bytes.count {
      let end = step >= bytes.count - at ? bytes.count : at + step
      progress = try reader.take(bytes[at..<end])
      at = end
    }
    return (reader, progress)
  }

  @Test(
    "An answer is read to its end, and the connection is kept only if that is safe",
    arguments: [
      ("200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true),
      ("204 No Content\r\n\r\n", 204, "", true),
      ("200\r\nContent-Length: 0\r\n\r\n", 200, "", true),
      ("200 OK\nContent-Length: 2\n\nok", 200, "ok", true),
      (
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nT: 1\r\n\r\n", 200, "ok",
        true
      ),
      ("200 OK\r\nConnection: Keep-Alive, Close\r\nContent-Length: 0\r\n\r\n", 200, "", false),
      ("200 OK\r\nContent-Length: 2\r\n\r\nok and more", 200, "ok", false),
      ("200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", 200, "", false),
      ("200 OK\r\nContent-Length: -1\r\n\r\nok", 200, "", false),
      ("200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nok", 200, "", false),
      ("200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", 200, "", false),
      ("200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 200, "", false),
      ("200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n", 200, "ok", false),
      (
        "200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n0\r\n\r\n", 200, "", false
      ),
      ("103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", 500, "", true),
      ("999 Odd\r\nContent-Length: 0\r\n\r\n", 999, "", true),
    ])
  func whole(_ text: String, _ status: Int, _ body: String, _ reusable: Bool) throws {
    let bytes = Array("HTTP/1.1 \(text)".utf8)
    for step in [1, 2, 7, Int.max] {
      let (reader, progress) = try Self.read(bytes, step: step)
      #expect(reader.status == status && reader.kept.elementsEqual(body.utf8), "\(step)")
      #expect(progress == .finished(reusable: reusable), "\(step)")
    }
  }

  @Test(
    "A body is whole only if nothing of it is missing or malformed",
    arguments: [
      ("Content-Length: 2\r\n\r\nok", true), ("Content-Length: 0\r\n\r\n", true),
      ("Content-Length: 3\r\n\r\nok", false), ("Content-Length: -1\r\n\r\nok", false),
      ("Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", true),
      ("Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", false),
      ("Transfer-Encoding: chunked\r\n\r\n2\r\nokay", false), ("\r\nok", true),
    ])
  func isWhole(_ text: String, _ isWhole: Bool) throws {
    for step in [1, 2, 7, Int.max] {
      var (reader, _) = try Self.read(Array("HTTP/1.1 200 OK\r\n\(text)".utf8), step: step)
      try reader.end()
      #expect(reader.isWhole == isWhole, "\(step)")
    }
  }

  @Test("A caller may ask for more of the body, and no more than that is kept")
  func keptBytes() throws {
    let body = [UInt8](repeating: 0x61, count: 50_000)
    for (maximum, kept) in [(60_000, 50_000), (50_000, 50_000), (40_000, 40_000)] {
      var reader = HTTPAnswerReader(maximumBodyBytes: maximum, keptBytes: maximum)
      _ = try reader.take("HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n".utf8 + body)
      #expect(reader.kept.count == kept && reader.isWhole)
    }
    var reader = HTTPAnswerReader(maximumBodyBytes: 100, keptBytes: 100)
    _ = try reader.take("HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n".utf8 + body[..<200])
    #expect(reader.kept.count == 100 && !reader.isWhole)
  }

  @Test(
    "Bytes that are not an answer are malformed before a status is known",
    arguments: [
      ("HTTP/1.1 099 X\r\n\r\n", HTTPAnswerReader.Malformed.status),
      ("HTTP/1.1 000\r\n\r\n", .status),
      ("HTTP/1.1 101 Switching\r\n\r\n", .upgrade), ("HTTP/1.1 20\r\n\r\n", .notHTTP),
      ("HTTP/1.1 2000 X\r\n\r\n", .notHTTP), ("HTTP/1.1 -20 X\r\n\r\n", .notHTTP),
      ("HTTP/2 200\r\n\r\n", .notHTTP), ("\r\n\r\n", .notHTTP), ("SSH-2.0-x\r\n", .notHTTP),
      ("ICY 200 OK\r\n\r\n", .notHTTP), ("HTTP/1.1 ２００ OK\r\n\r\n", .notHTTP),
    ])
  func malformed(_ text: String, _ cause: HTTPAnswerReader.Malformed) {
    #expect(throws: cause) { try Self.read(Array(text.utf8)) }
    #expect(throws: cause) { try Self.read(Array(text.utf8), step: 1) }
  }

  @Test("Heads, interim answers and bodies without an end are bounded")
  func bounds() throws {
    let line = Array("X-Y: \(String(repeating: "y", count: 1_000))\r\n".utf8)
    let flood = Array("HTTP/1.1 200 OK\r\n".utf8) + Array(repeatElement(line, count: 80).joined())
    #expect(throws: HTTPAnswerReader.Malformed.headTooLong) { try Self.read(flood) }
    let noLine = [UInt8](repeating: 0x41, count: 70_000)
    #expect(throws: HTTPAnswerReader.Malformed.headTooLong) { try Self.read(noLine) }
    let interim = Array(String(repeating: "HTTP/1.1 100 Continue\r\n\r\n", count: 17).utf8)
    #expect(throws: HTTPAnswerReader.Malformed.tooManyInterimAnswers) { try Self.read(interim) }
    for head in ["", "Content-Length: 1000000000\r\n"] {
      let endless =
        Array("HTTP/1.1 200 OK\r\n\(head)\r\n".utf8) + [UInt8](repeating: 0x7A, count: 20_000)
      let (reader, progress) = try Self.read(endless, step: 1_000)
      #expect(progress == .finished(reusable: false) && reader.kept.count == 1_024)
    }
    let trailers =
      Array("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n".utf8)
      + Array(repeatElement(line, count: 80).joined())
    #expect(try Self.read(trailers).1 == .finished(reusable: false))
  }

  @Test("The end of a connection ends an answer once a status is known, and is an error before")
  func ends() throws {
    var (reader, _) = try Self.read(Array("HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\nab".utf8))
    try reader.end()
    #expect(reader.status == 500 && reader.kept == Array("ab".utf8))
    var (early, _) = try Self.read(Array("HTTP/1.1 200 OK\r\nContent-Le".utf8))
    #expect(throws: HTTPAnswerReader.Malformed.endedEarly) { try early.end() }
  }

  @Test("Retry-After is the first one of the final answer")
  func retryAfter() throws {
    let (reader, _) = try Self.read(
      Array(
        "HTTP/1.1 103 X\r\nRetry-After: 1\r\n\r\nHTTP/1.1 429 X\r\nretry-after:  7 \r\nRetry-After: 9\r\n\r\n"
          .utf8))
    #expect(reader.retryAfter == "7")
  }

  @Test("Every prefix, every flipped byte and random bytes are read without a trap")
  func hostile() {
    var random = SeededRandom(of: "answers")
    let valid = Array(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nRetry-After: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        .utf8)
    func survives(_ bytes: [UInt8]) {
      var reader = HTTPAnswerReader()
      do {
        _ = try reader.take(bytes)
        try reader.end()
      } catch {
        #expect(reader.status == nil)
      }
      #expect(reader.kept.count <= HTTPAnswerReader.keptBytes)
    }
    for end in valid.indices {
      survives(Array(valid[..<end]))
      for bit in 0..<8 {
        var flipped = valid
        flipped[end] ^= 1 << UInt8(bit)
        survives(flipped)
      }
    }
    for _ in 0..<2_000 {
      survives(random.bytes(200))
      survives(Array("HTTP/1.1 200 OK\r\n".utf8) + random.bytes(200))
    }
  }
}
