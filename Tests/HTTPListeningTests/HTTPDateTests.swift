import HTTPListening
import Testing

@Suite struct HTTPDateTests {
  @Test(
    "A Date header is spelled as RFC 9110 requires",
    arguments: [
      (784_111_777_000, "Sun, 06 Nov 1994 08:49:37 GMT"), (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
      (1_709_251_199_999, "Thu, 29 Feb 2024 23:59:59 GMT"),
    ] as [(Int64, String)])
  func date(_ milliseconds: Int64, _ text: String) {
    #expect(HTTPDate.text(milliseconds) == text)
  }
}
