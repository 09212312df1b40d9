import HTTPTypes
import Testing

@testable import MeteringAPI

@Suite struct StoredAnswerTests {
  @Test func `An answer that was stored comes back with its status, headers and body`() throws {
    let bodies: [[UInt8]] = [[], Array("{\"a\":\n1}\n\nb: c\n".utf8), [0, 10, 10, 255]]
    for body in bodies {
      var answer = APIAnswer.json(
        status: .created,
        headers: [
          .location: "/v1/customers/a%3Ab", .eTag: "\"x: y\"", .cacheControl: "no-store",
        ], body)
      answer.headers[.contentDisposition] = "attachment; filename=\"a.csv\""
      let found = StoredAnswer.answer(try #require(StoredAnswer.bytes(answer)))
      #expect(found.status == .created && found.headers == answer.headers)
      #expect(bytes(found) == body)
    }
    let nothing = StoredAnswer.answer(try #require(StoredAnswer.bytes(.noContent)))
    #expect(nothing.status == .noContent && nothing.headers.isEmpty && bytes(nothing) == [])
  }

  @Test func `An answer that an earlier version stored is still read`() {
    let found = StoredAnswer.answer(Array("201 application/json\n{}".utf8))
    #expect(found.status == .created && bytes(found) == Array("{}".utf8))
    #expect(found.headers == [.contentType: "application/json"])
    let empty = StoredAnswer.answer(Array("204 \n".utf8))
    #expect(empty.status == .noContent && empty.headers.isEmpty && bytes(empty) == [])
  }

  private func bytes(_ answer: APIAnswer) -> [UInt8]? {
    if case .bytes(let bytes) = answer.body { bytes } else { nil }
  }
}
