import JSONText
import Testing

@Suite struct MergePatchTests {
  /// The examples of RFC 7396, appendix A.
  private static let examples = [
    (#"{"a":"b"}"#, #"{"a":"c"}"#, #"{"a":"c"}"#),
    (#"{"a":"b"}"#, #"{"b":"c"}"#, #"{"a":"b","b":"c"}"#),
    (#"{"a":"b"}"#, #"{"a":null}"#, #"{}"#),
    (#"{"a":"b","b":"c"}"#, #"{"a":null}"#, #"{"b":"c"}"#),
    (#"{"a":["b"]}"#, #"{"a":"c"}"#, #"{"a":"c"}"#),
    (#"{"a":"c"}"#, #"{"a":["b"]}"#, #"{"a":["b"]}"#),
    (#"{"a":{"b":"c"}}"#, #"{"a":{"b":"d","c":null}}"#, #"{"a":{"b":"d"}}"#),
    (#"{"a":[{"b":"c"}]}"#, #"{"a":[1]}"#, #"{"a":[1]}"#),
    (#"["a","b"]"#, #"["c","d"]"#, #"["c","d"]"#),
    (#"{"a":"b"}"#, #"["c"]"#, #"["c"]"#),
    (#"{"a":"foo"}"#, "null", "null"),
    (#"{"a":"foo"}"#, #""bar""#, #""bar""#),
    (#"{"e":null}"#, #"{"a":1}"#, #"{"e":null,"a":1}"#),
    (#"[1,2]"#, #"{"a":"b","c":null}"#, #"{"a":"b"}"#),
    (#"{}"#, #"{"a":{"bb":{"ccc":null}}}"#, #"{"a":{"bb":{}}}"#),
  ]

  @Test(arguments: examples)
  func `A patch is applied as RFC 7396 requires`(
    original: String, patch: String, result: String
  ) throws {
    let merged = try JSONReader.parse(Array(original.utf8))
      .merged(with: try JSONReader.parse(Array(patch.utf8)))
    var writer = JSONWriter()
    writer.value(merged)
    #expect(String(decoding: writer.bytes, as: UTF8.self) == result)
  }

  @Test func `Names are compared by their bytes`() throws {
    let composed = try JSONReader.parse(Array(#"{"\u00e9":1}"#.utf8))
    let decomposed = try JSONReader.parse(Array(#"{"e\u0301":2}"#.utf8))
    #expect(composed.merged(with: decomposed).members?.count == 2)
  }
}
