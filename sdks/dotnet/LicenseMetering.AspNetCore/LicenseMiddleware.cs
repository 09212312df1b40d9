using System.Threading.Tasks;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;

namespace LicenseMetering.AspNetCore
{
    /// <summary>Lets requests through where the license holds; the others get 403 or 503 as application/problem+json.</summary>
    public static class LicenseMiddleware
    {
        private static readonly object Place = new object();

        /// <summary>Handlers get the result by <see cref="LicenseOf"/>.</summary>
        public static IApplicationBuilder UseLicense(
            this IApplicationBuilder application, ILicenseValidator client, LicenseGuard guard = null)
        {
            guard = guard ?? new LicenseGuard();
            return application.Use(next => context => InvokeAsync(context, next, client, guard));
        }

        /// <summary>What the middleware found; null where there is none.</summary>
        public static LicenseResult LicenseOf(this HttpContext context) =>
            context.Items.TryGetValue(Place, out var result) ? result as LicenseResult : null;

        private static async Task InvokeAsync(HttpContext context, RequestDelegate next, ILicenseValidator client, LicenseGuard guard)
        {
            var forwarded = context.Request.Headers["X-Forwarded-Host"].ToString();
            var domain = guard.DomainOf(context.Connection.RemoteIpAddress, context.Request.Host.Value, forwarded);
            var result = await client.ValidateAsync(domain, context.RequestAborted);
            if (result.Valid)
            {
                context.Items[Place] = result;
                await next(context);
                return;
            }
            context.Response.StatusCode = LicenseGuard.StatusOf(result);
            context.Response.ContentType = LicenseGuard.ContentType;
            await context.Response.WriteAsync(LicenseGuard.BodyOf(result));
        }
    }
}
