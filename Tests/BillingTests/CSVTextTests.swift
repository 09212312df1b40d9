import Billing
import Testing

@Suite struct CSVTextTests {
  private func line(_ cells: Cell...) -> String {
    var bytes: [UInt8] = []
    CSVText.append(cells, to: &bytes)
    return String(decoding: bytes, as: UTF8.self)
  }

  @Test func `A line is quoted as RFC 4180 says, and only where it has to be`() {
    #expect(line(.text("a"), .text("b,c"), .text("d\"e"), .null) == "a,\"b,c\",\"d\"\"e\",\r\n")
    #expect(line(.integer(-5), .quantity(7), .boolean(true), .number(1.5)) == "-5,7,true,1.5\r\n")
    #expect(line(.time(1_793_491_200_000)) == "2026-11-01T00:00:00Z\r\n")
    #expect(line(.json(Array(#"["a","b"]"#.utf8))) == "\"[\"\"a\"\",\"\"b\"\"]\"\r\n")
  }

  @Test func `A text that a spreadsheet would run is neutralized, a number is not`() {
    for text in ["=1+1", "+1", "-1", "@x", "\t=1", "  =1", "|calc", "\u{FF1D}1"] {
      #expect(line(.text(text)).drop { $0 == "\"" }.hasPrefix("'"), "\(text)")
    }
    #expect(line(.text("a=1")) == "a=1\r\n")
    #expect(line(.integer(-1)) == "-1\r\n")
  }
}
