import FuzzTargets
import Glibc

/// The target that libFuzzer calls. deploy/fuzz compiles this file. The name comes from the
/// environment, because libFuzzer has the arguments.
private let target: FuzzTarget = {
  guard let name = getenv("METER_FUZZ_TARGET"), let target = FuzzTarget(rawValue: String(cString: name)),
    target.isAvailable
  else { fatalError("METER_FUZZ_TARGET names no target that can be had without swift-crypto") }
  return target
}()

@_cdecl("LLVMFuzzerTestOneInput")
public func tryOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  target.run(Array(UnsafeBufferPointer(start: start, count: count)))
  return 0
}
