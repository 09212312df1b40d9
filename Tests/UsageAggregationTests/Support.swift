import EventCodec
import Foundation
import Testing
import UsageAggregation

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

/// 2026-11-23T18:40:00Z.
let sampleTime: Int64 = 1_795_459_200_000

/// Keys that are the same in every run of a test.
let fixedHash = KeyedHash(
  seed: (0x1234_5678_9ABC_DEF1, 0x0FED_CBA9_8765_4321, 0xA5A5_5A5A_3C3C_C3C3, 0x1111_2222_4444_8889)
)

/// Owns the bytes that texts and records borrow.
final class ByteStore {
  private var buffers: [UnsafeMutableRawBufferPointer] = []

  deinit { for buffer in buffers { buffer.deallocate() } }

  func copy(_ bytes: [UInt8]) -> UnsafeRawBufferPointer {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
    buffer.copyBytes(from: bytes)
    buffers.append(buffer)
    return UnsafeRawBufferPointer(buffer)
  }

  func text(_ bytes: [UInt8]) -> Text {
    let buffer = copy(bytes)
    return Text(
      base: buffer.baseAddress!.assumingMemoryBound(to: UInt8.self), count: buffer.count)
  }

  func text(_ string: String) -> Text { text(bytes(string)) }
}

/// `#expect` for expressions that are not copyable or that mutate. The macro cannot take those
/// apart.
func expect(
  _ condition: Bool, _ comment: @autoclosure () -> Comment? = nil,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(condition, comment(), sourceLocation: sourceLocation)
}
