using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;

namespace LicenseMetering
{
    /// <summary>Stands in for LicenseClient in tests: no network, no clock. It gives Result and remembers what it was asked.</summary>
    public sealed class FakeLicenseClient : ILicenseValidator
    {
        private readonly List<string> asked = new List<string>();
        private readonly List<Usage> recorded = new List<Usage>();

        private FakeLicenseClient(LicenseResult result) => Result = result;

        public LicenseResult Result { get; }

        /// <summary>The domains so far.</summary>
        public IReadOnlyList<string> Asked
        {
            get
            {
                lock (asked)
                {
                    return asked.ToArray();
                }
            }
        }

        /// <summary>The usage so far.</summary>
        public IReadOnlyList<Usage> Recorded
        {
            get
            {
                lock (recorded)
                {
                    return recorded.ToArray();
                }
            }
        }

        /// <summary>A client that says yes.</summary>
        public static FakeLicenseClient Valid(params string[] features)
        {
            var result = LicenseResult.Denied("valid", "online");
            result.Valid = true;
            result.Features = new Features(features);
            return new FakeLicenseClient(result);
        }

        /// <summary>A client that says no.</summary>
        public static FakeLicenseClient Denied(string code) => new FakeLicenseClient(LicenseResult.Denied(code, "online"));

        public LicenseResult Validate(string domain)
        {
            lock (asked)
            {
                asked.Add(domain);
            }
            return Result;
        }

        public Task<LicenseResult> ValidateAsync(string domain, CancellationToken cancellation = default(CancellationToken)) =>
            Task.FromResult(Validate(domain));

        /// <summary>Is kept.</summary>
        public bool Record(Usage usage)
        {
            lock (recorded)
            {
                recorded.Add(usage);
            }
            return true;
        }
    }
}
