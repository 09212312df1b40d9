import Foundation
import Metering
import Testing

@Suite struct SpellingTests {
  @Test func `Every byte has two hexadecimal digits, and they are read back`() {
    let bytes = (0...255).map { UInt8($0) }
    #expect(Hexadecimal.text(bytes) == bytes.map { String(format: "%02x", $0) }.joined())
    #expect(Hexadecimal.bytes(Hexadecimal.text(bytes)) == bytes)
    #expect(Hexadecimal.text([]) == "" && Hexadecimal.bytes("") == [])
    #expect(Hexadecimal.bytes("0aff7") == [0x0A, 0xFF])
  }

  @Test func `A JSON reader reads every escape of a byte as that byte`() throws {
    for byte in UInt8(0)..<0x80 {
      var json = Array("[\"a".utf8)
      [byte, 0x62].withUnsafeBufferPointer { JSONEscape.append($0, to: &json) }
      json += Array("\"]".utf8)
      let read = try JSONSerialization.jsonObject(with: Data(json)) as? [String]
      #expect(read == ["a\(Unicode.Scalar(byte))b"])
      #expect((json.count == 7) == !JSONEscape.isNeeded(byte))
    }
  }

  @Test func `Bytes that need no escape stand as they are, among them those of long characters`() {
    var json: [UInt8] = []
    Array("é\"😀\\\n".utf8).withUnsafeBufferPointer { JSONEscape.append($0, to: &json) }
    #expect(String(decoding: json, as: UTF8.self) == #"é\"😀\\\u000a"#)
  }

  @Test func `A JSON reader reads every escape of a character as that character`() throws {
    for scalar in ["\"", "\\", "\n", "\r", "\t", "\0", "\u{7F}", "\u{202E}", "\u{E0041}"]
      as [Unicode.Scalar]
    {
      var json = ""
      JSONEscape.append(scalar, to: &json)
      #expect(json.utf8.allSatisfy { (0x20..<0x7F).contains($0) })
      let document = Data("[\"\(json)\"]".utf8)
      #expect(try JSONSerialization.jsonObject(with: document) as? [String] == ["\(scalar)"])
    }
  }
}
