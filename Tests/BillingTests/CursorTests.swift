import Billing
import Testing

@Suite struct CursorTests {
  private let signer = CursorSigner(key: Array(repeating: 7, count: 32))

  @Test func `A cursor gives back its values, for the list and key that it was made for`() {
    let values = ["lic_ä\"1", "", "2026-11-01"]
    let cursor = signer.write(values, scope: "a list")
    #expect(signer.read(cursor, scope: "a list") == values)
    #expect(signer.read(cursor, scope: "another list") == nil)
    #expect(CursorSigner(key: Array(repeating: 8, count: 32)).read(cursor, scope: "a list") == nil)
  }

  @Test func `A cursor that was changed anywhere is refused`() {
    let cursor = Array(signer.write(["lic_1", "5"], scope: "s").utf8)
    for i in cursor.indices {
      var changed = cursor
      changed[i] = changed[i] == UInt8(ascii: "A") ? UInt8(ascii: "B") : UInt8(ascii: "A")
      #expect(signer.read(String(decoding: changed, as: UTF8.self), scope: "s") == nil)
    }
    for text in ["", ".", "a.b", "..", String(repeating: "A", count: 10_000)] {
      #expect(signer.read(text, scope: "s") == nil)
    }
  }
}
