/// Decodes RFC 4648 section 4 in its only spelling, with padding, without blanks, and with unused
/// bits of 0. Returns nil for any other text.
func bytesFromBase64(_ text: String) -> [UInt8]? {
  let all = Array(text.utf8)
  let symbols = all.prefix { $0 != UInt8(ascii: "=") }
  let padding = all.dropFirst(symbols.count)
  guard all.count % 4 == 0, padding.count <= 2,
    padding.allSatisfy({ $0 == UInt8(ascii: "=") })
  else { return nil }
  var bytes: [UInt8] = []
  for group in stride(from: 0, to: symbols.count, by: 4) {
    let present = min(4, symbols.count - group)
    var sextets: [Int] = []
    for symbol in symbols[group..<group + present] {
      guard let sextet = sextetOfSymbol[symbol] else { return nil }
      sextets.append(sextet)
    }
    while sextets.count < 4 { sextets.append(0) }
    let number = sextets.reduce(0) { $0 * 64 + $1 }
    let triple = [number / 65_536, number / 256 % 256, number % 256].map { UInt8($0) }
    let kept = present - 1
    // The bits after the bytes that are kept must be 0.
    guard triple.dropFirst(kept).allSatisfy({ $0 == 0 }) else { return nil }
    bytes += triple.prefix(kept)
  }
  return bytes
}

private let sextetOfSymbol: [UInt8: Int] = {
  let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
  return Dictionary(uniqueKeysWithValues: zip(alphabet.utf8, 0...))
}()

/// Whether the subtype of `type/subtype` is `json` or ends in `+json`, in upper or lower case.
/// Parameters are ignored.
func declaresJSON(_ mediaType: String) -> Bool {
  let blank: Set<UInt8> = [0x20, 0x09]
  var essence = Array(mediaType.utf8.prefix { $0 != UInt8(ascii: ";") })
  while let last = essence.last, blank.contains(last) { essence.removeLast() }
  essence = Array(essence.drop { blank.contains($0) })
  let parts = essence.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
  guard parts.count == 2, parts.allSatisfy({ !$0.isEmpty && $0.allSatisfy(tokenBytes.contains) })
  else { return false }
  let subtype = String(decoding: parts[1], as: UTF8.self).lowercased()
  return subtype == "json" || subtype.hasSuffix("+json")
}

/// `tchar` of RFC 9110.
private let tokenBytes = Set(
  "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".utf8)
